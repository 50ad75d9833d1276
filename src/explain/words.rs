//! The answer in words, for somebody who was woken by it.
//!
//! The first line of each part says what is so; the lines below say since when and why. Times come with their age,
//! counted from the moment of the answer. Whatever came from outside is shown so that it can neither move the cursor nor
//! be taken for our own words.

use std::fmt::{self, Display, Write};

use jiff::{SignedDuration, Timestamp};

use super::{
    answer::{
        Absence, AbsentBecause, Answer, CrmState, LinkState, MemberState, OpenState, Paused, Person, Reading, Waiting,
        Way,
    },
    question::Kind,
};
use crate::{
    contact::{ContactId, Version, record::Status},
    crm::{Presence, link::Settled, naming::ENTITY},
    event::{EventRef, OutcomeKind, Reason, entry::Cause},
    identity::membership::DropCode,
    pause::Ordered,
};

/// The answer as text, several lines, each ended.
pub fn told(answer: &Answer) -> String {
    let mut page = Page { text: String::new(), now: answer.asked_at };
    match (&answer.contact, &answer.absence) {
        (Some(person), _) => {
            page.person(person);
            page.claimants(answer);
            for crm in &answer.crms {
                page.crm(crm, person.version, &answer.worker);
            }
            page.line(0, "");
        }
        (None, Some(absence)) => page.absence(absence, answer),
        (None, None) => page.line(0, "the worker told nothing"),
    }
    page.readings(answer);
    page.text
}

struct Page {
    text: String,
    now: Timestamp,
}

impl Page {
    fn line(&mut self, depth: usize, text: impl Display) {
        let line = text.to_string();
        if !line.is_empty() {
            self.text.extend(std::iter::repeat_n("  ", depth));
            self.text.push_str(&line);
        }
        self.text.push('\n');
    }

    fn person(&mut self, person: &Person) {
        let Person { contact_id, version, status, merged_into, since, event, epoch, partition, members } = person;
        self.line(0, format_args!("contact {contact_id}: {}, version {version}", status_word(*status)));
        if let Some(survivor) = merged_into {
            self.line(1, format_args!("it became {survivor}: ask about that one"));
        }
        let when = self.when(*since);
        match event {
            Some(event) => self.line(1, format_args!("since {when}, by {}", event_words(event))),
            None => self.line(1, format_args!("since {when}, by no event: the program or an operator did it")),
        }
        self.line(1, format_args!("decided in term {epoch}; partition {partition}"));
        self.line(1, format_args!("made up of {}:", count(members.len() as u64, "source record")));
        for member in members {
            self.member(member);
        }
    }

    fn member(&mut self, member: &MemberState) {
        let MemberState { source, subject, live, spoke_at, by, refusals, dropped } = member;
        let state = if *live { "live" } else { "deleted" };
        let joined = match by {
            None => "the contact was founded with it".to_owned(),
            Some(key) => format!("joined by {}", key.as_str()),
        };
        let spoke = self.when(*spoke_at);
        self.line(2, format_args!("{subject:?} of {}: {state}, last heard of {spoke}; {joined}", shown(source)));
        for refused in refusals {
            let (contact, key, code) = (refused.contact, refused.key_type.as_str(), refused.code);
            self.line(3, format_args!("not joined to {contact}, to which its {key} leads: {code}"));
        }
        for dropped in dropped {
            let (number, key, code) = (dropped.count, dropped.key_type.as_str(), dropped.code);
            self.line(3, format_args!("not used as a key: {}, {code}", count(number.into(), key)));
        }
    }

    fn claimants(&mut self, answer: &Answer) {
        if answer.generic {
            self.line(1, "so many assert what was asked for that it leads nobody new to anybody");
        }
        if !answer.claimants.is_empty() {
            let others: Vec<_> = answer.claimants.iter().map(ContactId::to_string).collect();
            self.line(1, "what was asked for is also asserted by other contacts, in the order of their claims:");
            for other in others {
                self.line(2, other);
            }
        }
    }

    fn crm(&mut self, crm: &CrmState, newest: Version, worker: &str) {
        self.line(0, "");
        self.line(0, format_args!("{}: {}", crm.crm, self.state(crm, newest)));
        if let Some(link) = &crm.link {
            self.link(link);
        }
        self.paused(crm, worker);
        self.line(1, self.read(&crm.reading));
    }

    /// What is so, in one line.
    fn state(&self, crm: &CrmState, newest: Version) -> String {
        let Some(link) = &crm.link else {
            return match (crm.waiting, &crm.reading.problem) {
                (Some(waiting), None) => format!("nothing has ended here yet; {}", waiting_words(waiting)),
                (Some(waiting), Some(_)) if crm.reading.way == Way::View => {
                    format!("nothing has ended here as far as was seen; {}", waiting_words(waiting))
                }
                _ => "not known, since its links could not be read".to_owned(),
            };
        };
        match (&link.open, crm.waiting, &link.settled) {
            (Some(open), None, _) => self.parked(open),
            (Some(open), Some(waiting), _) => format!("{}; {}", self.parked(open), waiting_words(waiting)),
            (None, Some(waiting), _) => waiting_words(waiting),
            (None, None, Some(settled)) => match settled.outcome {
                OutcomeKind::Delivered | OutcomeKind::Unchanged => format!("up to date with version {newest}"),
                outcome => format!("{outcome}; nothing more is tried until the contact changes"),
            },
            (None, None, None) => format!("every version up to {} has its outcome", link.answered),
        }
    }

    fn parked(&self, open: &OpenState) -> String {
        let OpenState { version, attempts, next_attempt, .. } = open;
        let due = if *next_attempt > self.now { "next try at" } else { "its next try was due at" };
        format!("version {version} is parked since attempt {attempts}; {due} {}", self.when(*next_attempt))
    }

    fn link(&mut self, link: &LinkState) {
        if let Some(open) = &link.open {
            let read = self.when(open.received_at);
            match (&open.event, &open.cause, &open.asked) {
                (Some(event), ..) => self.line(1, format_args!("parked: {}, read {read}", event_words(event))),
                (None, Some(cause), _) => {
                    self.line(1, format_args!("parked: {} {:?}, of {read}", cause.kind, cause.id));
                }
                (None, None, Some(_)) => self.line(1, format_args!("parked: no event, but what was asked {read}")),
                (None, None, None) => self.line(1, format_args!("parked: no event, of {read}")),
            }
            if let Some(Cause { kind, id }) = &open.asked {
                self.line(1, format_args!("an operator asked for a {kind} ({id:?}): the next try carries it"));
            }
        }
        match &link.settled {
            Some(settled) => self.line(1, format_args!("last outcome: {}", settled_words(settled))),
            None => self.line(1, "last outcome: none yet"),
        }
        if let Some(keys) = &link.intent {
            let by = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
            self.line(1, "a create is under way, or its answer was lost: before anything else it is looked for there");
            self.line(2, format_args!("by {by}, as they were sent"));
        }
        if link.incomplete {
            self.line(1, "it was created, and not all of it is there yet");
        }
        if let Some(waiting) = &link.waiting {
            let when = self.when(waiting.next_look);
            self.line(1, format_args!("it names another contact, which is not there; looked for again {when}"));
        }
        match link.presence {
            None => self.line(1, "nothing was accepted by it"),
            Some(presence) => {
                let held = match presence {
                    Presence::Active => "holds the contact as active",
                    Presence::Inactive => "holds the contact as inactive",
                    Presence::Absent => "does not hold the contact",
                };
                self.line(
                    1,
                    format_args!("as last accepted it {held}, with {}", count(link.fields_sent as u64, "field")),
                );
            }
        }
        if link.fields_uncertain > 0 {
            let fields = count(link.fields_uncertain as u64, "field");
            self.line(1, format_args!("{fields} sent with unknown effect, to be sent again"));
        }
        for (role, id) in &link.remote_ids {
            if role == ENTITY {
                self.line(1, format_args!("it is there as: {}", shown(id)));
            } else {
                self.line(1, format_args!("its id there ({role}): {}", shown(id)));
            }
        }
    }

    fn paused(&mut self, crm: &CrmState, worker: &str) {
        if let Some(Ordered { by, reason, at, .. }) = &crm.ordered {
            let (by, at) = (shown(by), at.strftime("%Y-%m-%d %H:%M:%SZ"));
            let reason = reason.as_deref().map(|reason| format!(": {}", shown(reason))).unwrap_or_default();
            self.line(1, format_args!("THE CRM IS PAUSED since {at} by an operator, {by}{reason}; resume ends it"));
        }
        let why = match crm.paused {
            // Told above.
            None | Some(Paused::Operator) => None,
            Some(Paused::Failing) => Some("contact after contact fails; it is probed, and goes on by itself"),
            Some(Paused::Credentials) => Some("it refuses the credential; correct it, for the probes use it too"),
            Some(Paused::Connection) => Some("base URL, path or rights are wrong, or it redirects; it is probed"),
        };
        match (crm.reading.way, why) {
            (Way::View, Some(why)) => self.line(1, format_args!("THE CRM IS PAUSED: {why}")),
            (Way::Log, Some(why)) => self.line(1, format_args!("{worker}, which answers, has paused the CRM: {why}")),
            (Way::View | Way::Log, None) => {}
        }
        match &crm.owner {
            Some(owner) if owner.released => {
                self.line(1, format_args!("last worked on by {}, which gave it back", shown(&owner.worker)));
            }
            Some(owner) if owner.worker != worker => {
                let owner = shown(&owner.worker);
                self.line(1, format_args!("worked on by {owner}; whether that one has paused the CRM, it alone knows"));
            }
            Some(_) => self.line(1, format_args!("worked on by {worker}")),
            None => self.line(1, "nobody is known to work on it"),
        }
    }

    fn read(&self, reading: &Reading) -> String {
        let Reading { topic, partition, way, position, .. } = reading;
        let from = match way {
            Way::View => "from this worker's view",
            Way::Log => "from the log, since this worker does not own it",
        };
        let mut text = format!("read {from} ({topic}[{partition}])");
        match (reading.unseen(), position) {
            (Some(0), _) => text.push_str(", to its end"),
            (Some(unseen), _) => {
                let records = count(unseen, "record");
                write!(text, ", {records} short of its end: there may be news").expect("a string takes all");
            }
            (None, Some(position)) => {
                write!(text, ", up to {position}; where it ends is not known").expect("a string takes all");
            }
            (None, None) => text.push_str(", which it does not follow now: it may be old"),
        }
        if let Some(problem) = &reading.problem {
            write!(text, "; {problem}").expect("a string takes all");
        }
        text
    }

    fn absence(&mut self, absence: &Absence, answer: &Answer) {
        let asked = match answer.asked {
            Kind::Contact => "the id of a contact",
            Kind::Member => "a source and its subject",
            Kind::Email => "an e-mail address",
        };
        self.line(0, format_args!("nobody was found; what was looked for is {asked}"));
        if answer.asked == Kind::Member {
            match &absence.source {
                Some(source) => self.line(1, format_args!("it was read as a subject of the source {source}")),
                None => self.line(
                    1,
                    "it was read as a subject of a source that the settings do not name; --source and --subject say them apart",
                ),
            }
        }
        match absence.because {
            AbsentBecause::Unknown => self.unknown(absence, answer),
            AbsentBecause::Generic => {
                self.line(1, "so many contacts assert it that it leads to none; ask by source and subject");
            }
            AbsentBecause::RecordMissing => {
                self.line(1, "it leads to a contact whose record this worker has not read yet: ask again in a moment");
            }
            AbsentBecause::NoKey(code) => {
                let why = match code {
                    DropCode::Invalid => "no such address can exist",
                    DropCode::Role => "it is a mailbox of a role, not of a person",
                    DropCode::Domain => "its domain is blocked",
                    DropCode::Value => "it stands for nothing",
                    DropCode::Generic | DropCode::KeyLimit => "it is not used",
                };
                self.line(1, format_args!("it is no key ({code}): {why}; ask by source and subject"));
            }
        }
    }

    fn unknown(&mut self, absence: &Absence, answer: &Answer) {
        if answer.readings.iter().any(|reading| reading.unseen() != Some(0)) {
            self.line(1, "this worker's view may be behind (below): ask again in a moment, or another worker");
        }
        match absence.undecided {
            Some(0) => self.line(1, "every event that was published is decided"),
            Some(waiting) => {
                let events = count(waiting, "event");
                self.line(1, format_args!("{events} on the input topics without a decision yet: it may be among them"));
            }
            None => self.line(1, "how many events wait for a decision is not known, since the log does not answer"),
        }
        match answer.asked {
            Kind::Email => {
                self.line(
                    1,
                    "only an address that a live source record has now leads to its contact, former ones do not",
                );
            }
            Kind::Member => self.line(1, "source and subject are compared letter by letter with those of the events"),
            Kind::Contact => self.line(1, "a contact that ever was keeps its record, so this id was never given here"),
        }
        if answer.asked != Kind::Contact {
            self.line(1, "an event that could not be read is on contact-dead-letters, with the reason in its headers");
        }
    }

    fn readings(&mut self, answer: &Answer) {
        let when = self.when(answer.asked_at);
        self.line(0, format_args!("told by worker {} of {}, {when}", shown(&answer.worker), shown(&answer.instance)));
        for reading in &answer.readings {
            self.line(1, self.read(reading));
        }
    }

    /// A time with its age.
    fn when(&self, at: Timestamp) -> String {
        format!("{} ({})", at.strftime("%Y-%m-%d %H:%M:%SZ"), Age(self.now.duration_since(at)))
    }
}

/// How long ago something was, or how far ahead it is when negative; the two largest units.
struct Age(SignedDuration);

impl Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.unsigned_abs().as_secs();
        let length = match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
            (0, 0, 0, 0) => return f.write_str("now"),
            (0, 0, 0, seconds) => format!("{seconds} s"),
            (0, 0, minutes, 0) => format!("{minutes} min"),
            (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
            (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
            (days, hours, ..) => format!("{days} d {hours} h"),
        };
        if self.0.is_negative() { write!(f, "in {length}") } else { write!(f, "{length} ago") }
    }
}

fn status_word(status: Status) -> &'static str {
    match status {
        Status::Live => "live",
        Status::Deleted => "deleted",
        Status::Merged => "merged into another",
        Status::Erased => "erased",
    }
}

fn event_words(event: &EventRef) -> String {
    let EventRef { source, id, subject, topic, partition, offset } = event;
    let mut text = "event".to_owned();
    if let Some(id) = id {
        write!(text, " {id:?}").expect("a string takes all");
    }
    if let Some(source) = source {
        write!(text, " of {}", shown(source)).expect("a string takes all");
    }
    if let Some(subject) = subject {
        write!(text, " on {subject:?}").expect("a string takes all");
    }
    write!(text, " ({topic}[{partition}]@{offset})").expect("a string takes all");
    text
}

fn waiting_words(Waiting { from, to }: Waiting) -> String {
    if from == to { format!("version {to} waits") } else { format!("versions {from} to {to} wait") }
}

fn settled_words(settled: &Settled) -> String {
    let Settled { version, outcome, operation, reason, attempts } = settled;
    let mut text = format!("version {version} {outcome}");
    if let Some(operation) = operation {
        write!(text, " by {operation}").expect("a string takes all");
    }
    if let Some(reason) = reason {
        write!(text, ", {}", reason_words(reason)).expect("a string takes all");
    }
    match attempts {
        0 => text.push_str(", without a call"),
        _ => write!(text, ", after {}", count((*attempts).into(), "attempt")).expect("a string takes all"),
    }
    text
}

fn reason_words(reason: &Reason) -> String {
    let Reason { code, http_status, crm_code, field } = reason;
    let mut text = code.to_string();
    if let Some(field) = field {
        write!(text, " at {}", shown(field)).expect("a string takes all");
    }
    if let Some(status) = http_status {
        write!(text, ", HTTP {status}").expect("a string takes all");
    }
    if let Some(code) = crm_code {
        write!(text, ", their code {}", shown(code)).expect("a string takes all");
    }
    text
}

fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("{number} {what}") } else { format!("{number} {what}s") }
}

/// As it is where it is plain, otherwise quoted with everything escaped that is not.
fn shown(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic());
    if plain { text.to_owned() } else { format!("{text:?}") }
}

#[cfg(test)]
mod tests;
