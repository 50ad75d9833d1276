//! Topics in words: the table, the findings of a check, what was made, and the commands that permit.

use super::survey::Surveyed;
use crate::{
    config::Settings,
    worker::{self, Created},
};

const HEADS: [&str; 9] =
    ["topic", "partitions", "cleanup", "kept", "tombstones", "message", "replicas", "min ISR", "what for"];

/// What is needed of each topic; where something else is found, that beside it.
pub(super) fn table(surveyed: &[Surveyed], note: Option<&str>) -> String {
    let rows = surveyed.iter().map(|topic| row(topic, note.is_some()));
    let rows: Vec<[String; 9]> = [HEADS.map(str::to_owned)].into_iter().chain(rows).collect();
    let widths: Vec<usize> =
        (0..HEADS.len()).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    if let Some(note) = note {
        text.push_str(&format!("{note}\n"));
    }
    text
}

fn row(topic: &Surveyed, unasked: bool) -> [String; 9] {
    let setting = |key: &str| topic.found.as_ref().and_then(|found| found.settings.get(key)).cloned();
    let replicas = topic.found.as_ref().and_then(|found| found.replicas).map(|replicas| replicas.to_string());
    let partitions = topic.found.as_ref().map(|found| found.partitions.to_string());
    let same = |text: &str| text.to_owned();
    let needed = &topic.needed;
    let number = |needed: Option<String>, found: Option<String>| cell(needed, found, same);
    let is_state = needed.delete_retention_ms.is_some();
    let missing = if topic.found.is_none() && !unasked { "MISSING: " } else { "" };
    [
        topic.topic.to_string(),
        number(needed.partitions.map(|count| count.to_string()), partitions),
        number(needed.cleanup_policy.map(str::to_owned), setting("cleanup.policy")),
        match is_state {
            true => "for good".to_owned(),
            false => cell(needed.retention_ms.map(|time| time.to_string()), setting("retention.ms"), time),
        },
        match is_state {
            true => cell(needed.delete_retention_ms.map(|time| time.to_string()), setting("delete.retention.ms"), time),
            false => "-".to_owned(),
        },
        cell(needed.max_message_bytes.map(|bytes| bytes.to_string()), setting("max.message.bytes"), size),
        number(needed.replicas.map(|count| count.to_string()), replicas),
        number(needed.min_insync_replicas.map(|count| count.to_string()), setting("min.insync.replicas")),
        format!("{missing}{}", topic.purpose),
    ]
}

/// What is needed, with what is found beside it where that is something else.
fn cell(needed: Option<String>, found: Option<String>, told: impl Fn(&str) -> String) -> String {
    match (needed, found) {
        (Some(needed), Some(found)) if needed != found => format!("{} (found {})", told(&needed), told(&found)),
        (Some(needed), _) => told(&needed),
        (None, Some(found)) => format!("any (found {})", told(&found)),
        (None, None) => "any".to_owned(),
    }
}

/// Milliseconds in the largest unit that takes them whole.
fn time(milliseconds: &str) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    let Ok(count) = milliseconds.parse::<u64>() else {
        return if milliseconds == "-1" { "for good".to_owned() } else { milliseconds.to_owned() };
    };
    let unit = UNITS.iter().find(|(unit, _)| count > 0 && count.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{count} ms"), |(unit, name)| format!("{} {name}", count / unit))
}

fn size(bytes: &str) -> String {
    const UNITS: [(u64, &str); 2] = [(1 << 20, "MiB"), (1 << 10, "KiB")];
    let Ok(count) = bytes.parse::<u64>() else { return bytes.to_owned() };
    let unit = UNITS.iter().find(|(unit, _)| count > 0 && count.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{count} B"), |(unit, name)| format!("{} {name}", count / unit))
}

/// A line for each topic that is as needed, and one for each difference.
pub(super) fn findings(surveyed: &[Surveyed], note: Option<&str>) -> String {
    if let Some(note) = note {
        return format!("ok    {note}\n");
    }
    surveyed.iter().flat_map(lines).map(|line| line + "\n").collect()
}

fn lines(topic: &Surveyed) -> Vec<String> {
    let Surveyed { topic: name, found, differences, is_input, .. } = topic;
    if found.is_none() {
        let remedy = match is_input {
            true => "whoever publishes to it creates it",
            false => "create it with contact-replicator topics --create, or let the first worker do it",
        };
        return vec![format!("FAIL  topic {name}: it is missing; {remedy}")];
    }
    if differences.is_empty() {
        return vec![format!("ok    topic {name}")];
    }
    let line = |difference: &crate::log::Difference| match difference.matters {
        true => format!("FAIL  {difference}"),
        false => format!("warn  {difference}"),
    };
    differences.iter().map(line).collect()
}

pub(super) fn created(created: &Created) -> String {
    let Created { topics, births } = created;
    if topics.is_empty() && births.is_empty() {
        return "nothing was missing\n".to_owned();
    }
    let mut text: String = topics.iter().map(|topic| format!("created topic {topic}\n")).collect();
    if !births.is_empty() {
        text.push_str(&format!("wrote the birth records of {} partitions of compacted topics\n", births.len()));
    }
    text
}

/// The command lines that permit `principal` what a worker does.
pub(super) fn permission_commands(principal: &str, settings: &Settings) -> Vec<String> {
    let servers = quoted(&settings.log.kafka.bootstrap_servers);
    let principal = quoted(principal);
    let command = |permission: &worker::Permission| {
        format!("kafka-acls --bootstrap-server {servers} --add --allow-principal {principal} {permission}")
    };
    worker::permissions(settings).iter().map(command).collect()
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._-:,=/@".contains(letter);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::TopicFound;

    #[test]
    fn times_and_sizes_are_told_in_the_largest_unit_that_takes_them_whole() {
        for (told, expected) in [
            ("604800000", "7 d"),
            ("90000000", "25 h"),
            ("90000", "90 s"),
            ("1500", "1500 ms"),
            ("-1", "for good"),
            ("0", "0 ms"),
        ] {
            assert_eq!(time(told), expected);
        }
        assert_eq!([size("4194304"), size("1048588")], ["4 MiB", "1048588 B"]);
    }

    #[test]
    fn the_table_has_a_line_for_each_topic_and_tells_what_is_found_only_where_it_differs() {
        let settings = Settings::reference();
        let mut surveyed = super::super::survey::unasked(&settings);
        let policy = |policy: &str| [("cleanup.policy".to_owned(), policy.to_owned())].into();
        surveyed[0].found = Some(TopicFound { partitions: 12, replicas: Some(1), settings: policy("compact") });
        let text = table(&surveyed, None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + worker::planned_topics(&settings).len());
        assert!(lines[1].starts_with("contact-records") && lines[1].contains("24 (found 12)"), "{text}");
        assert!(!lines[1].contains("MISSING") && !lines[1].contains("compact ("), "{text}");
        assert!(lines[2..].iter().all(|line| line.contains("MISSING")), "{text}");
        assert!(!table(&surveyed, Some("not asked")).contains("MISSING"));
    }
}
