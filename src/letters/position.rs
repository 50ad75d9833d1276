//! A position in the log as people write it: `contact-changes[3]@17`.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::log::{Offset, Partition, Record};

/// Of one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub topic: Arc<str>,
    pub partition: Partition,
    pub offset: Offset,
}

/// What is no position is not repeated: it may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter is named by a position, as TOPIC[PARTITION]@OFFSET: that of the event, or its own")]
pub struct NoPosition;

impl Position {
    pub fn of(record: &Record) -> Self {
        Self { topic: record.at.topic.clone(), partition: record.at.partition, offset: record.offset }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let (place, offset) = text.rsplit_once("]@").ok_or(NoPosition)?;
        let (topic, partition) = place.rsplit_once('[').ok_or(NoPosition)?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok());
        let partition = number(partition).flatten().and_then(|number| Partition::try_from(number).ok());
        let offset = number(offset).flatten();
        match (partition, offset) {
            (Some(partition), Some(offset)) if !topic.is_empty() => Ok(Self { topic: topic.into(), partition, offset }),
            _ => Err(NoPosition),
        }
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["contact-changes[3]@17", "a[b][0]@0", "crm.contact-dead-letters[23]@18446744073709551615"] {
            assert_eq!(text.parse::<Position>().unwrap().to_string(), text);
        }
        for wrong in ["", "contact-changes", "a[1]", "a@1", "[1]@2", "a[1]@", "a[]@1", "a[-1]@1", "a[1]@+1", "a[1]@1 "]
        {
            assert_eq!(wrong.parse::<Position>(), Err(NoPosition), "{wrong:?}");
        }
    }
}
