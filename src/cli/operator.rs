//! Who asks a worker for something, and why: for its audit trail.
//!
//! The name is what `--by` says, or a variable of the environment that somebody configured, or the user of this machine. It
//! proves nothing, which the trail shows beside it; it tells colleagues whom to ask.

use std::{fs, os::unix::fs::MetadataExt};

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{
    admin::permit::{OPERATOR, REASON},
    config::Surroundings,
};

/// Names who asks, where a machine is shared.
const CONFIGURED: &str = "CONTACT_REPLICATOR_OPERATOR";
/// What shells and login programs set.
const USERS: [&str; 2] = ["USER", "LOGNAME"];
/// What a header would not carry as it is, or what would be taken for an escape.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

#[derive(Debug, Clone, Default, Args)]
pub(super) struct Who {
    /// Who asks, for the audit trail; without it, CONTACT_REPLICATOR_OPERATOR, or the user of this machine.
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

impl Who {
    /// What tells a worker who asks, and why.
    pub(super) fn headers(&self, reason: Option<&str>, surroundings: Surroundings<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(OPERATOR), escaped(&self.name(surroundings)));
        if let Some(reason) = reason {
            headers.insert(HeaderName::from_static(REASON), escaped(reason));
        }
        headers
    }

    fn name(&self, surroundings: Surroundings<'_>) -> String {
        let names = std::iter::once(CONFIGURED).chain(USERS);
        let variable = |name: &str| (surroundings.variable)(name).filter(|value| !value.trim().is_empty());
        self.by.clone().or_else(|| names.into_iter().find_map(variable)).unwrap_or_else(user_number)
    }
}

/// In a container, users have no names.
fn user_number() -> String {
    // This process, as Linux shows it.
    fs::metadata("/proc/self").map_or_else(|_not_linux| "unnamed user".to_owned(), |own| format!("uid {}", own.uid()))
}

fn escaped(text: &str) -> HeaderValue {
    let text = utf8_percent_encode(text, ESCAPED).to_string();
    HeaderValue::from_str(&text).expect("what is left is visible ASCII and blanks")
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;

    use super::*;

    #[test]
    fn a_name_is_the_one_given_then_the_configured_one_then_the_users() {
        let of = |by: Option<&str>, set: &[&str]| {
            let variable = |name: &str| set.contains(&name).then(|| format!("of {name}"));
            let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
            Who { by: by.map(str::to_owned) }.name(surroundings)
        };
        assert_eq!(of(Some("ann"), &["USER", CONFIGURED]), "ann");
        assert_eq!(of(None, &["USER", CONFIGURED]), format!("of {CONFIGURED}"));
        assert_eq!(of(None, &["USER", "LOGNAME"]), "of USER");
        assert_eq!(of(None, &["LOGNAME"]), "of LOGNAME");
        assert!(!of(None, &[]).is_empty());
    }

    #[test]
    fn what_a_person_writes_goes_through_a_header() {
        for text in ["a ticket", "100 % für Jürg", "a\nb", "漢字"] {
            let headers = Who { by: Some(text.to_owned()) }.headers(Some(text), Surroundings::process());
            for name in [OPERATOR, REASON] {
                let sent = headers[name].to_str().unwrap();
                assert_eq!(percent_decode_str(sent).decode_utf8().unwrap(), text);
            }
        }
    }
}
