//! The shape of a type, told by the type itself: what it asks of serde when it is to be read.
//!
//! A [`Deserializer`] without data leads the type down one path (this member, then an entry of that list) and notes what it
//! asks for at the end. That one answer is all it ever gets: reading then stops, so no value has to be made up on the way.

use std::cell::RefCell;

use serde::{
    Deserializer,
    de::{
        self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
};

/// A step into what holds others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// The member of this name.
    Member(&'a str),
    /// Any item of a list, or any value of a table with free names.
    Entry,
}

/// What a type asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Boolean,
    Integer {
        minimum: i64,
        maximum: u64,
    },
    Number,
    /// With what the type says that it expects.
    Text(String),
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// With the name of its type and those of its members.
    Table(&'static str, &'static [&'static str]),
    /// A table with free names.
    Map,
    List,
    /// Whatever there is; the type looks for itself.
    Anything,
}

/// The shape of `T` at `path`.
///
/// # Panics
/// If `T` has no such place.
pub(super) fn shape<T: DeserializeOwned>(path: &[Step<'_>]) -> Shape {
    let found = RefCell::new(None);
    let stopped = T::deserialize(Probe { path, found: &found }).is_err();
    assert!(stopped, "a type cannot be read from nothing");
    found.into_inner().unwrap_or_else(|| panic!("no type asks for anything at {path:?}"))
}

#[derive(Debug, thiserror::Error)]
#[error("there is nothing to be read")]
struct Stop;

impl de::Error for Stop {
    fn custom<T: std::fmt::Display>(_message: T) -> Self {
        Self
    }
}

struct Probe<'a> {
    path: &'a [Step<'a>],
    found: &'a RefCell<Option<Shape>>,
}

impl Probe<'_> {
    fn tell<T>(&self, shape: Shape) -> Result<T, Stop> {
        if self.path.is_empty() {
            self.found.replace(Some(shape));
        }
        Err(Stop)
    }
}

/// What a visitor says that it expects.
fn expected<'de>(visitor: &impl Visitor<'de>) -> String {
    (visitor as &dyn Expected).to_string()
}

macro_rules! integers {
    ($( $method:ident $type:ty, )+) => {
        $(
            fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Stop> {
                self.tell(Shape::Integer { minimum: <$type>::MIN as i64, maximum: <$type>::MAX as u64 })
            }
        )+
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Stop> {
        self.tell(Shape::Anything)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Stop> {
        self.tell(Shape::Boolean)
    }

    integers! {
        deserialize_i8 i8,
        deserialize_i16 i16,
        deserialize_i32 i32,
        deserialize_i64 i64,
        deserialize_u8 u8,
        deserialize_u16 u16,
        deserialize_u32 u32,
        deserialize_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Stop> {
        self.tell(Shape::Number)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Stop> {
        self.tell(Shape::Number)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.tell(Shape::Text(expected(&visitor)))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.path {
            [Step::Entry, path @ ..] => visitor.visit_seq(Inside { path, ..Inside::of(&self) }),
            _ => self.tell(Shape::List),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.path {
            [Step::Entry, path @ ..] => visitor.visit_map(Inside { path, ..Inside::of(&self) }),
            _ => self.tell(Shape::Map),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Stop> {
        match self.path {
            [Step::Member(member), path @ ..] => visitor.visit_map(Inside { path, member, ..Inside::of(&self) }),
            _ => self.tell(Shape::Table(name, fields)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Stop> {
        self.tell(Shape::Choice(variants))
    }

    forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The one member, or entry, that the path leads through.
struct Inside<'a> {
    member: &'a str,
    path: &'a [Step<'a>],
    found: &'a RefCell<Option<Shape>>,
}

impl<'a> Inside<'a> {
    fn of(probe: &Probe<'a>) -> Self {
        Self { member: "any", path: &[], found: probe.found }
    }

    fn probe(&self) -> Probe<'a> {
        Probe { path: self.path, found: self.found }
    }
}

impl<'de> MapAccess<'de> for Inside<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let name: StrDeserializer<'_, Stop> = self.member.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Stop> {
        seed.deserialize(self.probe())
    }
}

impl<'de> SeqAccess<'de> for Inside<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        seed.deserialize(self.probe()).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        path::PathBuf,
        sync::Arc,
        time::Duration,
    };

    use serde::Deserialize;

    use super::{Step::*, *};

    #[expect(dead_code, reason = "nothing of it is ever read")]
    #[derive(Deserialize)]
    struct Sample {
        flag: bool,
        count: u32,
        ratio: f64,
        name: Arc<str>,
        folder: Option<PathBuf>,
        #[serde(default, with = "humantime_serde")]
        age: Option<Duration>,
        #[serde(rename = "where")]
        conditions: Vec<Inner>,
        classes: BTreeMap<String, Choice>,
        names: BTreeSet<String>,
        free: serde_json::Value,
        #[serde(skip)]
        secret: Option<String>,
    }

    #[expect(dead_code, reason = "nothing of it is ever read")]
    #[derive(Deserialize)]
    struct Inner {
        any: Option<Vec<Inner>>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Choice {
        OneThing,
        Other,
    }

    #[test]
    fn a_type_tells_what_it_is_made_of_down_any_path() {
        let text = |expected: &str| Shape::Text(expected.to_owned());
        let members = &["flag", "count", "ratio", "name", "folder", "age", "where", "classes", "names", "free"][..];
        for (path, expected) in [
            (&[][..], Shape::Table("Sample", members)),
            (&[Member("flag")], Shape::Boolean),
            (&[Member("count")], Shape::Integer { minimum: 0, maximum: u32::MAX.into() }),
            (&[Member("ratio")], Shape::Number),
            (&[Member("name")], text("a string")),
            (&[Member("folder")], text("path string")),
            (&[Member("age")], text("a duration")),
            (&[Member("where")], Shape::List),
            (&[Member("where"), Entry], Shape::Table("Inner", &["any"])),
            (&[Member("where"), Entry, Member("any"), Entry], Shape::Table("Inner", &["any"])),
            (&[Member("classes")], Shape::Map),
            (&[Member("classes"), Entry], Shape::Choice(&["one_thing", "other"])),
            (&[Member("names"), Entry], text("a string")),
            (&[Member("free")], Shape::Anything),
        ] {
            assert_eq!(shape::<Sample>(path), expected, "{path:?}");
        }
    }

    #[test]
    #[should_panic(expected = "no type asks for anything")]
    fn a_place_that_there_is_not_is_a_fault_of_the_caller() {
        shape::<Sample>(&[Member("flag"), Entry]);
    }
}
