//! Names of persons, and whether two of them may be one person's.
//!
//! A name is never a key: too many people share one. It is a guard, asked when something else already says that two are
//! one. So it leans to "may be" where people write one name in many ways (accents, case, order, an initial, one slip),
//! and to "no" for all else: two members of a family share a mailbox and a telephone, and differ in the given name.

use icu_casemap::CaseMapper;
use icu_properties::props::GeneralCategoryGroup;
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use super::text::{is, text};
use crate::contact::Document;

/// Two names this long or longer may differ by one slip; of shorter ones a slip makes another name (Ann, Ian).
const SLIP_LETTERS_MIN: usize = 4;
/// Names longer than this are not searched for a slip: nobody's is, and the search takes time for each pair.
const SLIP_LETTERS_MAX: usize = 200;

/// A name in normal form: words without case, accents and signs, as they were written and sorted. Empty: there is none.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Words {
    written: Vec<String>,
    sorted: Vec<String>,
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a name of {} words", self.written.len())
    }
}

/// Given and family name, each in normal form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name {
    pub given: Words,
    pub family: Words,
}

/// How much of two names must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The given names, if both are known: people marry, and many addresses come without a name.
    Given,
    /// Both names, and they must be known.
    Both,
}

impl Words {
    pub fn of(raw: &str) -> Self {
        let folded: String = text(raw).nfkc().collect();
        let folded = CaseMapper::new().fold_string(&folded);
        let mut plain = String::with_capacity(folded.len());
        for letter in folded.nfd() {
            if is(GeneralCategoryGroup::NonspacingMark, letter) {
                continue;
            }
            match without_stroke(letter) {
                Some(letters) => plain.push_str(letters),
                // Vowels of some scripts are marks that take a place of their own.
                None if letter.is_alphanumeric() || is(GeneralCategoryGroup::Mark, letter) => plain.push(letter),
                None => plain.push(' '),
            }
        }
        let written: Vec<String> = plain.split_whitespace().map(str::to_owned).collect();
        let mut sorted = written.clone();
        sorted.sort_unstable();
        Self { written, sorted }
    }

    pub fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Whether both may be one name: equal, the one the initials of the other, or a slip apart. Empty agrees with
    /// nothing.
    fn agrees(&self, other: &Self) -> bool {
        if self.is_empty() || other.is_empty() {
            return false;
        }
        self.sorted == other.sorted
            || self.is_initial_of(other)
            || other.is_initial_of(self)
            || self.sorted.len() == other.sorted.len() && each_has_its_own(&self.sorted, &other.sorted, is_same_or_initial)
            // As written and without blanks: O'Brien, OBrien; Annmarie, Ann Marie.
            || is_a_slip_apart(&self.written.concat(), &other.written.concat())
            || is_a_slip_apart(&self.sorted.join(" "), &other.sorted.join(" "))
    }

    fn is_initial_of(&self, other: &Self) -> bool {
        match (&self.written[..], other.written.first()) {
            ([alone], Some(first)) => is_initial(alone, first),
            _ => false,
        }
    }
}

impl Name {
    /// The name of the person that a document is about. Of an organisation it is whom one asks for there.
    pub fn of(document: &Document) -> Self {
        match document.members().get("name") {
            Some(Value::Object(name)) => Self::of_parts(name),
            _ => Self::default(),
        }
    }

    fn of_parts(name: &Map<String, Value>) -> Self {
        let part = |part| name.get(part).and_then(Value::as_str).unwrap_or_default();
        let parts = Self { given: Words::of(part("givenName")), family: Words::of(part("familyName")) };
        if parts.is_missing() { Self::of_whole(part("formatted")) } else { parts }
    }

    /// A name in one text: `Roth, Ann`, or the family name last.
    fn of_whole(whole: &str) -> Self {
        let shown = text(whole);
        let (given, family) = match shown.split_once(',') {
            Some((family, given)) => (given, family),
            None => shown.rsplit_once(' ').unwrap_or((&shown, "")),
        };
        Self { given: Words::of(given), family: Words::of(family) }
    }

    pub fn is_missing(&self) -> bool {
        self.given.is_empty() && self.family.is_empty()
    }

    /// Whether both names may be one person's. It does not matter whose name comes first.
    pub fn is_compatible(&self, other: &Self, need: Need) -> bool {
        match need {
            Need::Given => {
                let agree = |one: &Words, other: &Words| one.is_empty() || other.is_empty() || one.agrees(other);
                let crossed = self.given.agrees(&other.family) || self.family.agrees(&other.given);
                agree(&self.given, &other.given)
                    || crossed && agree(&self.given, &other.family) && agree(&self.family, &other.given)
            }
            Need::Both => {
                self.given.agrees(&other.given) && self.family.agrees(&other.family)
                    || self.given.agrees(&other.family) && self.family.agrees(&other.given)
            }
        }
    }
}

/// Whether two names, each in one text, may be one person's: each word of the shorter is found in the longer, equal, as an
/// initial or with a slip, and not only by initials. Nothing at all contradicts nothing; whoever needs a name asks
/// for one first.
pub fn compatible_full(a: &str, b: &str) -> bool {
    let (a, b) = (Words::of(a), Words::of(b));
    let (short, long) = if a.written.len() <= b.written.len() { (&a, &b) } else { (&b, &a) };
    if short.is_empty() {
        return true;
    }
    let agree = |one: &str, other: &str| is_same_or_initial(one, other) || is_a_slip_apart(one, other);
    let is_more_than_initials =
        |words: &Words| words.sorted.iter().any(|word| word.chars().nth(1).is_some() || !is_cased(word));
    let are_known = short.sorted == long.sorted || is_more_than_initials(short) && is_more_than_initials(long);
    are_known && each_has_its_own(&short.sorted, &long.sorted, agree)
        || is_a_slip_apart(&a.written.concat(), &b.written.concat())
}

/// Whether each of `short` finds another one of `long`. Equal words find each other first, so that none is taken away
/// by an initial.
fn each_has_its_own(short: &[String], long: &[String], agree: impl Fn(&str, &str) -> bool) -> bool {
    let mut free: Vec<&str> = long.iter().map(String::as_str).collect();
    let mut take = |word: &str, fits: &dyn Fn(&str, &str) -> bool| {
        let place = free.iter().position(|other| fits(word, other));
        place.map(|place| free.swap_remove(place)).is_some()
    };
    let rest: Vec<&String> = short.iter().filter(|word| !take(word, &|one, other| one == other)).collect();
    rest.into_iter().all(|word| take(word, &agree))
}

fn is_same_or_initial(one: &str, other: &str) -> bool {
    one == other || is_initial(one, other) || is_initial(other, one)
}

/// Whether `short` is one letter and `long` begins with it. Only letters with case stand for names: in other scripts
/// one letter is a name.
fn is_initial(short: &str, long: &str) -> bool {
    short.chars().nth(1).is_none() && is_cased(short) && long.chars().next() == short.chars().next()
}

fn is_cased(folded: &str) -> bool {
    folded.chars().all(char::is_lowercase)
}

/// Whether one letter put in, left out or replaced makes the one the other, or they are equal; and both are long enough.
fn is_a_slip_apart(one: &str, other: &str) -> bool {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let letters = |name: &[char]| name.iter().filter(|letter| !letter.is_whitespace()).count();
    let lengths = SLIP_LETTERS_MIN..=SLIP_LETTERS_MAX;
    if !lengths.contains(&letters(&one)) || !lengths.contains(&letters(&other)) {
        return false;
    }
    let same_start = one.iter().zip(&other).take_while(|(one, other)| one == other).count();
    let same_end = one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count();
    let (short, long) = (one.len().min(other.len()), one.len().max(other.len()));
    long - short <= 1 && same_start + same_end + 1 >= long
}

/// Letters that no decomposition frees of what is drawn through or joined in them.
fn without_stroke(letter: char) -> Option<&'static str> {
    Some(match letter {
        'ø' => "o",
        'ł' => "l",
        'đ' | 'ð' => "d",
        'ħ' => "h",
        'æ' => "ae",
        'œ' => "oe",
        'ı' => "i",
        'þ' => "th",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn name(given: &str, family: &str) -> Name {
        Name { given: Words::of(given), family: Words::of(family) }
    }

    /// As for an e-mail address, and as for a telephone.
    #[track_caller]
    fn check((given, family): (&str, &str), (other_given, other_family): (&str, &str), expected: [bool; 2]) {
        let (one, other) = (name(given, family), name(other_given, other_family));
        let found = [Need::Given, Need::Both].map(|need| one.is_compatible(&other, need));
        assert_eq!(found, expected, "{given} {family} / {other_given} {other_family}");
        assert_eq!(
            [Need::Given, Need::Both].map(|need| other.is_compatible(&one, need)),
            expected,
            "the other way round"
        );
    }

    #[test]
    fn words_are_without_case_accents_and_signs() {
        for (raw, expected) in [
            ("Zoë-Ann  O'Brien", "ann brien o zoe"),
            ("STRAẞE", "strasse"),
            ("Weiß", "weiss"),
            ("Øystein Łukasz Đorđe", "dorde lukasz oystein"),
            ("Þór Æsa Œuvre", "aesa oeuvre thor"),
            ("Işık IŞIK", "isik isik"),
            ("Ａｎｎ\u{200b}", "ann"),
            ("Müller, Jr.", "jr muller"),
            ("...", ""),
        ] {
            assert_eq!(Words::of(raw).sorted.join(" "), expected, "{raw:?}");
        }
    }

    #[test]
    fn equal_names_agree_however_they_are_written() {
        check(("Ann", "Roth"), ("ANN", "roth"), [true, true]);
        check(("Zoë", "Müller"), ("Zoe", "Muller"), [true, true]);
        check(("Ann-Marie", "Roth"), ("Marie Ann", "Roth"), [true, true]);
        check(("Annmarie", "O'Brien"), ("Ann Marie", "OBrien"), [true, true]);
        check(("Ann", "Roth"), ("Bob", "Roth"), [false, false]);
        check(("Ann", "Roth"), ("Bob", "Kern"), [false, false]);
    }

    #[test]
    fn an_initial_agrees_with_its_name() {
        check(("A.", "Roth"), ("Ann", "Roth"), [true, true]);
        check(("A. M.", "Roth"), ("Ann Marie", "Roth"), [true, true]);
        check(("J.", "Roth"), ("Jean Pierre", "Roth"), [true, true]);
        check(("Ann M.", "Roth"), ("Ann Marie", "Roth"), [true, true]);
        check(("B.", "Roth"), ("Ann", "Roth"), [false, false]);
        check(("明", "林"), ("明子", "林"), [false, false]);
    }

    #[test]
    fn one_slip_is_forgiven_in_names_of_four_letters_and_more() {
        check(("Anna", "Roth"), ("Anne", "Rothe"), [true, true]);
        check(("Christine", "Roth"), ("Christin", "Roth"), [true, true]);
        check(("Ann", "Roth"), ("Anna", "Roth"), [false, false]);
        check(("Ian", "Roth"), ("Jan", "Roth"), [false, false]);
        check(("Maria", "Roth"), ("Mario", "Roth"), [true, true]);
        check(("Anna", "Roth"), ("Anja", "Kern"), [true, false]);
        check(("Hanna", "Roth"), ("Jonna", "Roth"), [false, false]);
        check(("aaaa", "Roth"), ("aaaaa", "Roth"), [true, true]);
        check(("aaaa", "Roth"), ("aaaaaa", "Roth"), [false, false]);
    }

    #[test]
    fn swapped_fields_count() {
        check(("Roth", "Ann"), ("Ann", "Roth"), [true, true]);
        check(("Roth", ""), ("Ann", "Roth"), [true, false]);
        check(("Ann", "Bob"), ("Roth", "Ann"), [false, false]);
        check(("Roth", "Ann"), ("Bob", "Roth"), [false, false]);
    }

    #[test]
    fn for_an_address_the_given_name_decides_and_a_missing_one_agrees() {
        check(("Ann", "Roth"), ("Ann", "Kern"), [true, false]);
        check(("", ""), ("Ann", "Roth"), [true, false]);
        check(("", "Roth"), ("Ann", "Roth"), [true, false]);
        check(("Ann", ""), ("Ann", "Roth"), [true, false]);
        check(("", ""), ("", ""), [true, false]);
    }

    #[test]
    fn a_name_in_one_text_is_taken_apart() {
        let of = |value: Value| Name::of(&Document::parse(value).unwrap().0);
        let ann = name("Ann", "Roth");
        for value in [
            json!({"name": {"formatted": "Ann Roth"}}),
            json!({"name": {"formatted": "Roth, Ann"}}),
            json!({"name": {"givenName": "Ann", "familyName": "Roth", "formatted": "Somebody Else"}}),
        ] {
            assert_eq!(of(value), ann);
        }
        assert_eq!(of(json!({"name": {"formatted": "Ann"}})), name("Ann", ""));
        for value in [json!({}), json!({"name": null}), json!({"name": {"formatted": " "}})] {
            assert!(of(value).is_missing());
        }
    }

    #[test]
    fn whole_names_are_compatible_if_the_shorter_is_found_in_the_longer() {
        for (a, b, expected) in [
            ("Ann Roth", "Roth Ann", true),
            ("Ann Roth", "ROTH, Ann", true),
            ("Ann Roth", "Ann Marie Roth", true),
            ("A. Roth", "Ann Roth", true),
            ("A. R.", "Ann Roth", false),
            ("Ann", "Ann Roth", true),
            ("Anna Rothe", "Anna Roth", true),
            ("Ann Roth", "Bob Roth", false),
            ("Ann Roth", "Ann Kern", false),
            ("Ann Ann", "Ann Roth", false),
            ("", "Ann Roth", true),
            ("Annmarie Roth", "Ann Marie Roth", true),
        ] {
            assert_eq!(compatible_full(a, b), expected, "{a} / {b}");
            assert_eq!(compatible_full(b, a), expected, "{b} / {a}");
        }
    }

    #[test]
    fn debug_does_not_show_a_name() {
        assert_eq!(format!("{:?}", Words::of("Ann Roth")), "a name of 2 words");
    }

    proptest! {
        #[test]
        fn a_name_is_compatible_with_itself_and_whatever_the_order(one in "\\PC{0,9}", other in "[abAé ]{0,6}") {
            let (one, other) = (name(&one, &other), name(&other, &one));
            for need in [Need::Given, Need::Both] {
                prop_assert_eq!(one.is_compatible(&other, need), other.is_compatible(&one, need));
            }
            prop_assert!(one.is_compatible(&one, Need::Given));
        }

        #[test]
        fn words_of_words_are_the_same(raw in "\\PC{0,12}") {
            let once = Words::of(&raw);
            prop_assert_eq!(Words::of(&once.written.join(" ")), once);
        }
    }
}
