//! The table in words: what a place of the contact takes, for whoever has to mend what stands there.

use std::str::Split;

use super::{Attribute, CONTACT, Form, PHOTO_BYTES_MAX};

/// What the contact takes at a JSON pointer, as "a text" or "an object"; `None` where it knows no such place. Null is taken
/// everywhere and not named.
pub fn expected(pointer: &str) -> Option<String> {
    let mut steps = pointer.split('/');
    // Before the first slash there is nothing.
    steps.next()?;
    at(&Form::Object(CONTACT), steps)
}

fn at(form: &Form, mut steps: Split<'_, char>) -> Option<String> {
    let Some(step) = steps.next() else {
        return Some(form.in_words());
    };
    match form {
        Form::Object(members) => at(&member(members, step)?.form, steps),
        Form::Array(members) => at(&Form::Object(members), steps),
        Form::TextMap => Some(Form::Text.in_words()),
        Form::ScalarMap => Some("a text, a number or a boolean".to_owned()),
        _ => None,
    }
}

fn member<'a>(members: &'a [Attribute], name: &str) -> Option<&'a Attribute> {
    members.iter().find(|member| member.name == name)
}

impl Form {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Degrees(bound) => format!("a number from -{bound} to {bound}"),
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
            Self::Label(labels) => format!("one of {}; another text is taken as other", labels.join(", ")),
            Self::Date => "a day that exists, as YYYY-MM-DD".to_owned(),
            Self::Country => "a country as ISO 3166-1 alpha-2 in capitals, such as CH".to_owned(),
            Self::Language => "a well-formed BCP 47 language tag, such as de-CH".to_owned(),
            Self::Photo => format!("an https URL, or a data URL of at most {PHOTO_BYTES_MAX} bytes"),
            Self::Object(_) => "an object".to_owned(),
            Self::Array(_) => "a list of objects".to_owned(),
            Self::TextMap => "an object of texts".to_owned(),
            Self::ScalarMap => "an object of texts, numbers and booleans".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_a_fault_can_name_is_told_in_words() {
        for (pointer, words) in [
            ("", "an object"),
            ("/kind", "one of person, organization"),
            ("/emails", "a list of objects"),
            ("/emails/3", "an object"),
            ("/emails/3/primary", "true or false"),
            ("/addresses/0/geo/latitude", "a number from -90 to 90"),
            ("/birthDate", "a day that exists, as YYYY-MM-DD"),
            ("/identifiers/customer_no", "a text"),
            ("/attributes/a~1b", "a text, a number or a boolean"),
        ] {
            assert_eq!(expected(pointer).as_deref(), Some(words), "{pointer}");
        }
        for pointer in ["/shoeSize", "/kind/x", "/emails/0/nothing"] {
            assert_eq!(expected(pointer), None, "{pointer}");
        }
        assert!(super::super::paths().all(|path| expected(path).is_some() || path.matches('/').count() > 1));
    }
}
