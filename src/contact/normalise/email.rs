//! E-mail addresses as keys.
//!
//! The domain is brought to the form in which it is looked up (UTS 46, non-transitional, so that ß stays a letter of its
//! own), and then held to the rules of host names here: the mapping alone lets blanks and underscores pass. The local
//! part is folded. By the letter of RFC 5321 its case may matter; no provider lets it, and people write it either way.
//! The fold is the default one, never the Turkic: an address is the same in every country.
//!
//! What dots and tags in a local part mean is the provider's business. They are dropped only for providers known to
//! ignore them; elsewhere `jdoe` and `j.doe` may be two people.

use std::sync::Arc;

use icu_casemap::CaseMapper;
use idna::{AsciiDenyList, uts46};
use unicode_normalization::UnicodeNormalization;

use super::text::text;

/// RFC 5321, section 4.5.3.1.1.
const LOCAL_BYTES_MAX: usize = 64;
/// What a host name may have on the wire, and so much each of its labels.
const DOMAIN_LENGTH_MAX: usize = 253;
const LABEL_LENGTH_MAX: usize = 63;

/// How providers treat local parts.
#[derive(Debug, Clone)]
pub struct EmailRules {
    /// Providers that ignore dots, and whatever follows a plus; each by its domains, which mean the same mailboxes. The
    /// first stands for all of them.
    pub providers: Vec<Vec<Arc<str>>>,
}

impl Default for EmailRules {
    fn default() -> Self {
        Self { providers: vec![vec!["gmail.com".into(), "googlemail.com".into()]] }
    }
}

impl EmailRules {
    /// The normal form of an address; `None` if it is none.
    pub fn normalise(&self, raw: &str) -> Option<String> {
        let shown = text(raw);
        let bare = bare(&shown);
        if bare.contains(' ') {
            return None;
        }
        let (local, domain) = bare.rsplit_once('@')?;
        let (mut local, mut domain) = (local_part(local)?, host(domain)?);
        if let Some(provider) = self.providers.iter().find(|names| names.iter().any(|name| **name == *domain)) {
            local = local.split('+').next().unwrap_or_default().replace('.', "");
            if let Some(name) = provider.first() {
                domain = name.to_string();
            }
        }
        (!local.is_empty()).then(|| format!("{local}@{domain}"))
    }
}

/// Local part and domain of a normal form.
pub fn parts(normalised: &str) -> (&str, &str) {
    normalised.rsplit_once('@').unwrap_or((normalised, ""))
}

/// The address alone, of what mail programs and links write around it.
fn bare(shown: &str) -> &str {
    let inner = shown.strip_suffix('>').and_then(|opened| opened.rsplit_once('<'));
    let address = inner.map_or(shown, |(_, address)| address).trim();
    const SCHEME: &str = "mailto:";
    match address.split_at_checked(SCHEME.len()) {
        // What follows a question mark are headers of the mail to be written.
        Some((scheme, link)) if scheme.eq_ignore_ascii_case(SCHEME) => link.split('?').next().unwrap_or(link),
        _ => address,
    }
}

fn local_part(raw: &str) -> Option<String> {
    let local = folded(raw);
    let is_quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    // Outside quotes these are no part of an address; a list of addresses in one field shows by them.
    let fits = is_quoted || !local.contains(|letter: char| r#"()<>[]:;@\,""#.contains(letter));
    // The mapping may bring forth a blank: there is one under some accents.
    let is_blank = |letter: char| letter.is_whitespace();
    (fits && !local.is_empty() && local.len() <= LOCAL_BYTES_MAX && !local.contains(is_blank)).then_some(local)
}

/// Without case, and without ways of writing one letter.
fn folded(raw: &str) -> String {
    if raw.is_ascii() {
        // What the mappings make of nearly every address, without their tables.
        return raw.to_ascii_lowercase();
    }
    let composed: String = raw.nfkc().collect();
    CaseMapper::new().fold_string(&composed).nfkc().collect()
}

/// The domain as it is looked up, if it can be a host name with at least two labels.
fn host(raw: &str) -> Option<String> {
    let mapped = uts46::Uts46::new()
        .to_ascii(raw.as_bytes(), AsciiDenyList::EMPTY, uts46::Hyphens::Allow, uts46::DnsLength::Ignore)
        .ok()?;
    let host = mapped.strip_suffix('.').unwrap_or(&mapped);
    let is_label = |label: &str| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (host.contains('.') && host.len() <= DOMAIN_LENGTH_MAX && host.split('.').all(is_label)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contact::normalise::email;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        assert_eq!(email(raw).as_deref(), Some(expected), "{raw:?}");
    }

    #[track_caller]
    fn refused(raw: &str) {
        assert_eq!(email(raw), None, "{raw:?}");
    }

    #[test]
    fn what_people_read_as_one_address_is_one_key() {
        for raw in [
            "ann@x.ch",
            "ANN@X.CH",
            " ann@x.ch\u{a0}",
            "a\u{ad}nn@x.ch",
            "\u{feff}ann@x\u{200b}.ch",
            "Ann <ann@x.ch>",
            "\"Roth, Ann\" < Ann@x.ch >",
            "<ann@x.ch>",
            "mailto:ann@x.ch",
            "MailTo:ann@x.ch?subject=hello",
            "Ann <mailto:ann@x.ch>",
            "ann@x.ch.",
            "ａｎｎ@x.ch",
        ] {
            check(raw, "ann@x.ch");
        }
    }

    #[test]
    fn dots_and_tags_tell_mailboxes_apart_except_where_the_provider_ignores_them() {
        check("j.doe@x.ch", "j.doe@x.ch");
        check("jdoe@x.ch", "jdoe@x.ch");
        check("jdoe+a@x.ch", "jdoe+a@x.ch");
        for raw in ["j.doe@gmail.com", "jdoe+a+b@gmail.com", "J.D.o.e+x@GoogleMail.com", "jdoe@googlemail.com."] {
            check(raw, "jdoe@gmail.com");
        }
        check("jdoe+a@mail.gmail.com", "jdoe+a@mail.gmail.com");
        refused("+a@gmail.com");
        refused("...@gmail.com");
        let other = EmailRules { providers: vec![vec!["x.ch".into()]] };
        assert_eq!(other.normalise("j.doe+a@x.ch").as_deref(), Some("jdoe@x.ch"));
        assert_eq!(other.normalise("j.doe@gmail.com").as_deref(), Some("j.doe@gmail.com"));
    }

    #[test]
    fn a_domain_is_the_one_that_is_looked_up() {
        check("x@straße.de", "x@xn--strae-oqa.de");
        check("x@strasse.de", "x@strasse.de");
        check("x@Ｅxample。ch", "x@example.ch");
        check("x@İstanbul.com", "x@xn--istanbul-o0e.com");
        check("x@istanbul.com", "x@istanbul.com");
        check("x@BÜCHER.example", "x@xn--bcher-kva.example");
        check("x@xn--bcher-kva.example", "x@xn--bcher-kva.example");
        check("x@a-b.co.uk", "x@a-b.co.uk");
    }

    #[test]
    fn a_local_part_is_folded_without_regard_to_any_country() {
        check("İPEK@x.com", "i\u{307}pek@x.com");
        check("ipek@x.com", "ipek@x.com");
        check("IPEK@x.com", "ipek@x.com");
        check("Straße@x.com", "strasse@x.com");
        check("JOSÉ@x.com", "josé@x.com");
        check("jose\u{301}@x.com", "josé@x.com");
    }

    #[test]
    fn ascii_letters_are_folded_as_the_tables_fold_them() {
        for letter in '\0'..='\u{7f}' {
            let composed: String = letter.nfkc().collect();
            let mapped: String = CaseMapper::new().fold_string(&composed).nfkc().collect();
            assert_eq!(folded(&letter.to_string()), mapped, "{letter:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for raw in [
            "",
            "@",
            "ann",
            "ann@",
            "@x.ch",
            "ann@ch",
            "ann roth@x.ch",
            "ann@ex ample.com",
            "ann@a_b.com",
            "ann@-a.com",
            "ann@a-.com",
            "ann@a..com",
            "ann@.com",
            "ann@x.ch..",
            "ann@[192.0.2.1]",
            "ann@x.ch, bob@x.ch",
            "ann@x.ch,bob@x.ch",
            "ann@x.ch;bob@x.ch",
            "ann@@x.ch",
            "a´b@x.ch",
        ] {
            refused(raw);
        }
    }

    #[test]
    fn lengths_are_judged_at_their_edges() {
        let local = |length: usize| format!("{}@x.ch", "a".repeat(length));
        check(&local(64), &local(64));
        refused(&local(65));
        refused(&format!("{}@x.ch", "é".repeat(33)));
        let label = |length: usize| format!("ann@{}.ch", "a".repeat(length));
        check(&label(63), &label(63));
        refused(&label(64));
        let domain = |length: usize| {
            let labels = format!("{}.", "a".repeat(62)).repeat(3);
            format!("ann@{labels}{}.ch", "b".repeat(length - labels.len() - 3))
        };
        check(&domain(252), &domain(252));
        check(&domain(253), &domain(253));
        let too_long = format!("ann@{}{}", "aaaaaaa.".repeat(31), "bbbbbb");
        assert_eq!(too_long.len(), 4 + 254);
        refused(&too_long);
    }

    proptest! {
        #[test]
        fn its_own_result_stays_as_it_is(raw in "\\PC{0,12}@\\PC{0,12}\\.(ch|com)|[a-zA-Z.+İßé]{1,8}@(gmail|x)\\.com") {
            if let Some(once) = email(&raw) {
                prop_assert_eq!(email(&once), Some(once.clone()));
            }
        }
    }
}
