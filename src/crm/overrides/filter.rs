//! Which contacts a CRM is to have: conditions on the document.

use serde_json::Value;

use super::{Misfit, place::Place};
use crate::{
    config::Condition,
    contact::{Document, schema::Holds},
};

/// What must hold, all of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Filter(Vec<Clause>);

#[derive(Debug, Clone, PartialEq)]
enum Clause {
    Any(Vec<Clause>),
    Test { place: Place, test: Test },
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    OneOf(Vec<Value>),
    IsNot(Value),
    Present(bool),
}

impl Filter {
    /// # Errors
    /// All that is wrong with it. `key` is that of the list.
    pub(super) fn new(written: &[Condition], key: &str) -> Result<Self, Vec<Misfit>> {
        clauses(written, key).map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn lets_pass(&self, document: &Document) -> bool {
        self.0.iter().all(|clause| clause.holds(document))
    }
}

impl Clause {
    fn holds(&self, document: &Document) -> bool {
        match self {
            Self::Any(clauses) => clauses.iter().any(|clause| clause.holds(document)),
            Self::Test { place, test } => {
                let said = place.all(document);
                let is = |wanted: &Value| said.iter().any(|value| same(value, wanted));
                match test {
                    Test::OneOf(values) => values.iter().any(is),
                    Test::IsNot(value) => !is(value),
                    Test::Present(wanted) => *wanted != said.is_empty(),
                }
            }
        }
    }
}

/// Numbers are equal by what they count, however they are written.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    }
}

fn clauses(written: &[Condition], key: &str) -> Result<Vec<Clause>, Vec<Misfit>> {
    let mut clauses = Vec::new();
    let mut misfits = Vec::new();
    for (index, condition) in written.iter().enumerate() {
        match clause(condition, &format!("{key}[{index}]")) {
            Ok(clause) => clauses.push(clause),
            Err(found) => misfits.extend(found),
        }
    }
    if misfits.is_empty() { Ok(clauses) } else { Err(misfits) }
}

fn clause(written: &Condition, key: &str) -> Result<Clause, Vec<Misfit>> {
    let misfit = |key: String, reason: &str, remedy: &str| {
        Err(vec![Misfit { key, reason: reason.to_owned(), remedy: remedy.to_owned() }])
    };
    let Condition { at, is, is_not, one_of, present, absent, any } = written;
    let tests = [is.is_some(), is_not.is_some(), one_of.is_some(), present.is_some(), absent.is_some()];
    let tests = tests.into_iter().filter(|is_there| *is_there).count();
    if let Some(any) = any {
        if at.is_some() || tests > 0 || any.is_empty() {
            return misfit(
                key.to_owned(),
                "a group has conditions and nothing else",
                "write { any = [{ at = … }, …] }",
            );
        }
        return clauses(any, &format!("{key}.any")).map(Clause::Any);
    }
    let (Some(at), 1) = (at, tests) else {
        let remedy = "write `at` and exactly one of `is`, `is_not`, `one_of`, `present` and `absent`";
        return misfit(key.to_owned(), "it is not clear what must hold", remedy);
    };
    let place = match Place::new(at) {
        Ok(place) => place,
        Err(reason) => {
            return misfit(format!("{key}.at"), reason, "name one of the contact document, as in \"/attributes/tier\"");
        }
    };
    let test = match (is, is_not, one_of, present.or(absent.map(|absent| !absent))) {
        (Some(value), ..) => Test::OneOf(vec![value.clone()]),
        (_, Some(value), ..) => Test::IsNot(value.clone()),
        (_, _, Some(values), _) => Test::OneOf(values.clone()),
        (.., present) => Test::Present(present.expect("there is one test")),
    };
    let (name, values) = match &test {
        Test::OneOf(values) => (if is.is_some() { "is" } else { "one_of" }, values.as_slice()),
        Test::IsNot(value) => ("is_not", std::slice::from_ref(value)),
        Test::Present(_) => return Ok(Clause::Test { place, test }),
    };
    if place.holds() == Holds::Others {
        let remedy = "name one of those below it, or test `present` or `absent`";
        return misfit(format!("{key}.at"), "there are several values at this place", remedy);
    }
    if values.is_empty() || !values.iter().all(|value| may_be(value, place.holds())) {
        let remedy = match place.holds() {
            Holds::Choice(choices) => format!("choose from: {}", choices.join(", ")),
            Holds::Boolean => "write true or false".to_owned(),
            Holds::Number => "write a number".to_owned(),
            Holds::Text => "write a text".to_owned(),
            Holds::Scalar | Holds::Others => "write a text, a number, true or false".to_owned(),
        };
        return misfit(format!("{key}.{name}"), "no contact has such a value there", &remedy);
    }
    Ok(Clause::Test { place, test })
}

fn may_be(value: &Value, holds: Holds) -> bool {
    match holds {
        Holds::Text => value.is_string(),
        Holds::Choice(choices) => value.as_str().is_some_and(|text| choices.contains(&text)),
        Holds::Number => value.is_number(),
        Holds::Boolean => value.is_boolean(),
        Holds::Scalar => value.is_string() || value.is_number() || value.is_boolean(),
        Holds::Others => false,
    }
}
