//! How workers stand, in words: a table for each, and one of all together where several were asked.
//!
//! What needs somebody comes first and in capitals, with what to do about it. Whatever came from outside is shown so that it can
//! neither move the cursor nor be taken for our own words.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::{
    CrmState, CrmStatus, ResolverStatus, Role, ViewStatus, WorkerStatus,
    page::{Cell, Line, Tone, table},
    totals::{Total, totals},
};
use crate::log::Partition;

/// A worker that was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Where.
    pub admin: String,
    /// How it stands, or why that is not known.
    pub answer: Result<WorkerStatus, String>,
}

const HEAD: [&str; 10] =
    ["CRM", "STATE", "PARTITIONS", "PENDING", "OLDEST", "IN FLIGHT", "REQUESTS/S", "OUTCOMES/S", "PARKED", "NEXT DUE"];

/// All of them, one after the other.
pub fn told(asked: &[Asked]) -> Vec<Line> {
    let mut lines = Vec::new();
    for Asked { admin, answer } in asked {
        match answer {
            Ok(status) => worker(admin, status, &mut lines),
            Err(why) => {
                lines.push(Line::of(Tone::Bad, format!("NO ANSWER from {}", plain(admin))));
                lines.push(Line::note(1, Tone::Plain, plain(why)));
            }
        }
        lines.push(Line::default());
    }
    if asked.len() > 1 {
        together(asked, &mut lines);
    } else {
        lines.pop();
    }
    lines
}

fn worker(admin: &str, status: &WorkerStatus, lines: &mut Vec<Line>) {
    let WorkerStatus { worker, instance, build, started_at, told_at, log, log_problem, ready, not_ready, .. } = status;
    let mut title = Line::of(Tone::Title, format!("{} of {}", plain(worker), plain(instance)));
    title.push(Tone::Faint, format!(" at {}  ", plain(admin)));
    match ready {
        true => title.push(Tone::Good, "ready"),
        false => title.push(Tone::Bad, "NOT READY"),
    }
    lines.push(title);
    let commit = build.commit.as_deref().map(|commit| format!(" ({})", plain(commit))).unwrap_or_default();
    let since = started_at.strftime("%Y-%m-%d %H:%M:%SZ");
    let up = length(told_at.duration_since(*started_at));
    lines.push(Line::note(
        1,
        Tone::Faint,
        format!("version {}{commit}, log {}, since {since} ({up})", plain(&build.version), plain(log)),
    ));
    for missing in not_ready {
        lines.push(Line::note(1, Tone::Bad, format!("{}: {}", plain(&missing.part), plain(&missing.why))));
    }
    if let Some(problem) = log_problem {
        lines.push(Line::note(1, Tone::Bad, format!("the log does not say how far it goes: {}", plain(problem))));
    }
    if let Some(resolver) = &status.resolver {
        lines.push(Line::note(1, Tone::Plain, resolver_words(resolver)));
    }
    if let Some(view) = &status.view {
        lines.push(Line::note(1, Tone::Plain, view_words(view)));
    }
    if status.crms.is_empty() {
        return;
    }
    lines.push(Line::default());
    let mut rows = vec![HEAD.iter().map(|name| Cell::left(Tone::Faint, *name)).collect::<Vec<_>>()];
    rows.extend(status.crms.iter().map(|crm| row(crm, *told_at)));
    let notes = status.crms.iter().map(|crm| crm_notes(crm, *told_at));
    let mut tabled = table(1, rows).into_iter();
    lines.extend(tabled.next());
    for (row, notes) in tabled.zip(notes) {
        lines.push(row);
        lines.extend(notes);
    }
}

fn resolver_words(resolver: &ResolverStatus) -> String {
    let ResolverStatus { role, holder, term, inputs, oldest_input_seconds, decisions_per_second } = resolver;
    let mut text = String::from("resolver: ");
    match (role, holder) {
        (Role::Active, _) => text.push_str("ACTIVE"),
        (Role::Standby, Some(holder)) => put(&mut text, format_args!("standby, {} took over last", plain(holder))),
        (Role::Standby, None) => text.push_str("standby, who decides is not known"),
    }
    if let Some(term) = term {
        put(&mut text, format_args!(", term {term}"));
    }
    for input in inputs {
        match input.undecided {
            Some(undecided) => put(&mut text, format_args!("; {} {undecided} undecided", plain(&input.topic))),
            None => put(&mut text, format_args!("; {} not known", plain(&input.topic))),
        }
    }
    if let Some(seconds) = oldest_input_seconds {
        put(&mut text, format_args!("; oldest input {}", seconds_words(*seconds)));
    }
    if let Some(rate) = decisions_per_second {
        put(&mut text, format_args!("; {} decisions/s", rate_words(*rate)));
    }
    text
}

fn view_words(view: &ViewStatus) -> String {
    let ViewStatus { short_records, bytes, format } = view;
    let mut text = String::from("view: ");
    match short_records {
        Some(0) => text.push_str("caught up"),
        Some(short) => put(&mut text, format_args!("{short} records short")),
        None => text.push_str("how far it is behind is not known"),
    }
    if let Some(bytes) = bytes {
        match bytes / 1_048_576 {
            0 => put(&mut text, format_args!(", {} KiB", bytes.div_ceil(1_024))),
            mebibytes => put(&mut text, format_args!(", {mebibytes} MiB")),
        }
    }
    put(&mut text, format_args!(", format {format}"));
    text
}

fn row(crm: &CrmStatus, now: Timestamp) -> Vec<Cell> {
    let limits = &crm.limits;
    let state = match crm.state {
        CrmState::Live => Cell::left(Tone::Good, "live"),
        CrmState::Shadow => Cell::left(Tone::Warn, "shadow"),
        CrmState::Paused => Cell::left(Tone::Bad, "PAUSED"),
    };
    let requests = match (crm.requests_per_second, limits.requests_per_second_share) {
        (None, _) => String::from("-"),
        (Some(rate), None) => rate_words(rate),
        (Some(rate), Some(share)) => format!("{}/{}", rate_words(rate), share_words(share)),
    };
    let outcomes = crm.requests_per_second.map(|_| rate_words(crm.outcomes_per_second.values().sum()));
    let next = crm.next_parked_due.map(|due| ahead(due.duration_since(now)));
    vec![
        Cell::left(Tone::Title, plain(&crm.crm)),
        state,
        Cell::right(format!("{}/{}", crm.partitions.len(), crm.partitions_all)),
        Cell::right(crm.pending.to_string()),
        Cell::right(if crm.pending == 0 { "-".into() } else { seconds_words(crm.oldest_pending_seconds) }),
        Cell::right(format!("{}/{}", crm.in_flight, limits.in_flight_limit)),
        Cell::right(requests),
        Cell::right(outcomes.unwrap_or_else(|| "-".into())),
        Cell::right(crm.parked.to_string()),
        Cell::right(next.unwrap_or_else(|| "-".into())),
    ]
}

/// What the table has no room for.
fn crm_notes(crm: &CrmStatus, now: Timestamp) -> Vec<Line> {
    let mut notes = Vec::new();
    if let Some(pause) = &crm.pause {
        let since = length(now.duration_since(pause.since));
        let probe = match pause.next_probe {
            Some(at) => format!("next probe {}", ahead(at.duration_since(now))),
            None => String::from("a probe is due or under way"),
        };
        notes.push(Line::note(2, Tone::Bad, format!("paused for {since}: {}; {probe}", plain(&pause.reason))));
        notes.push(Line::note(2, Tone::Warn, plain(&pause.remedy)));
    }
    if let Some(last) = &crm.last_error {
        let mut text = format!("last error {} ago: {}", length(now.duration_since(last.at)), plain(&last.class));
        if let Some(status) = last.http_status {
            put(&mut text, format_args!(", HTTP {status}"));
        }
        if let Some(code) = &last.crm_code {
            put(&mut text, format_args!(", code {}", plain(code)));
        }
        notes.push(Line::note(2, Tone::Plain, text));
    }
    if crm.partitions_working < crm.partitions.len() as u64 {
        let (working, owned) = (crm.partitions_working, crm.partitions.len());
        notes.push(Line::note(2, Tone::Warn, format!("{working} of {owned} owned partitions are worked on")));
    }
    if crm.entries_lost > 0 {
        let lost = format!("{} entries were deleted before they were read: resync it", crm.entries_lost);
        notes.push(Line::note(2, Tone::Bad, lost));
    }
    for (number, what) in [
        (crm.waiting_for_others, "contacts name another that it does not hold"),
        (crm.links_of_other_mappings, "contacts are there as another mapping made them: resync brings that down"),
    ] {
        if number > 0 {
            notes.push(Line::note(2, Tone::Plain, format!("{number} {what}")));
        }
    }
    let outcomes: Vec<_> = crm.outcomes.iter().map(|(kind, number)| format!("{kind} {number}")).collect();
    if !outcomes.is_empty() {
        notes.push(Line::note(2, Tone::Faint, format!("since the start: {}", outcomes.join(", "))));
    }
    notes
}

/// All who answered, and what nobody of them does.
fn together(asked: &[Asked], lines: &mut Vec<Line>) {
    let answers: Vec<&WorkerStatus> = asked.iter().filter_map(|asked| asked.answer.as_ref().ok()).collect();
    let silent = asked.len() - answers.len();
    let mut title = Line::of(Tone::Title, format!("{} of {} asked workers", answers.len(), asked.len()));
    if silent > 0 {
        title.push(Tone::Bad, format!("  {silent} WITHOUT AN ANSWER"));
    }
    lines.push(title);
    let deciding: Vec<String> = answers
        .iter()
        .filter(|status| status.resolver.as_ref().is_some_and(|resolver| resolver.role == Role::Active))
        .map(|status| plain(&status.worker))
        .collect();
    lines.push(match deciding.as_slice() {
        [] => Line::note(1, Tone::Warn, "resolver: nobody who was asked decides"),
        [one] => Line::note(1, Tone::Plain, format!("resolver: {one} decides")),
        several => Line::note(1, Tone::Warn, format!("resolver: {} say that they decide", several.join(" and "))),
    });
    let totals = totals(answers.iter().copied());
    if totals.is_empty() {
        return;
    }
    lines.push(Line::default());
    let several = totals.iter().any(|total| total.instance != totals[0].instance);
    let head = ["CRM", "PARTITIONS", "PENDING", "OLDEST", "IN FLIGHT", "REQUESTS/S", "OUTCOMES/S", "PARKED"];
    let mut rows = vec![head.iter().map(|name| Cell::left(Tone::Faint, *name)).collect::<Vec<_>>()];
    rows.extend(totals.iter().map(|total| total_row(total, several)));
    let mut tabled = table(1, rows).into_iter();
    lines.extend(tabled.next());
    for (row, total) in tabled.zip(&totals) {
        lines.push(row);
        for (partitions, what) in [
            (&total.partitions_unowned, "owned by nobody who was asked"),
            (&total.partitions_owned_twice, "claimed by two: they move just now, or one has not heard yet"),
        ] {
            if !partitions.is_empty() {
                lines.push(Line::note(2, Tone::Warn, format!("{what}: {}", ranges(partitions))));
            }
        }
    }
}

fn total_row(total: &Total, several: bool) -> Vec<Cell> {
    let name = match several {
        true => format!("{}/{}", plain(&total.instance), plain(&total.crm)),
        false => plain(&total.crm),
    };
    vec![
        Cell::left(Tone::Title, name),
        Cell::right(format!("{}/{}", total.partitions_owned(), total.partitions_all)),
        Cell::right(total.pending.to_string()),
        Cell::right(if total.pending == 0 { "-".into() } else { seconds_words(total.oldest_pending_seconds) }),
        Cell::right(total.in_flight.to_string()),
        Cell::right(rate_words(total.requests_per_second)),
        Cell::right(rate_words(total.outcomes_per_second)),
        Cell::right(total.parked.to_string()),
    ]
}

/// Partitions in order, those in a row as one.
fn ranges(partitions: &[Partition]) -> String {
    let mut rows: Vec<(Partition, Partition)> = Vec::new();
    for at in partitions {
        match rows.last_mut() {
            Some((_, last)) if *last + 1 == *at => *last = *at,
            _ => rows.push((*at, *at)),
        }
    }
    let words = |(first, last): &(Partition, Partition)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    rows.iter().map(words).collect::<Vec<_>>().join(", ")
}

fn rate_words(rate: f64) -> String {
    // No rate is negative, but the sum of none is minus zero.
    format!("{:.1}", rate.abs())
}

/// A limit needs no more places than somebody set.
fn share_words(share: f64) -> String {
    if share >= 10.0 { format!("{share:.0}") } else { rate_words(share) }
}

/// How long something is, in its largest unit that says enough.
fn seconds_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn length(duration: SignedDuration) -> String {
    seconds_words(u64::try_from(duration.as_secs()).unwrap_or(0))
}

fn ahead(duration: SignedDuration) -> String {
    if duration.as_secs() <= 0 { "now".into() } else { format!("in {}", length(duration)) }
}

/// As it is where it can do no harm, otherwise with everything escaped that could.
fn plain(text: &str) -> String {
    let harmless = text.chars().all(|letter| letter == ' ' || letter.is_ascii_graphic());
    if harmless { text.to_owned() } else { text.escape_debug().to_string() }
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a string takes all");
}

#[cfg(test)]
mod tests;
