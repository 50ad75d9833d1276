//! What operators may do with the fields of LogiSense.
//!
//! The members of a contact itself and the texts of its address can be filled; countries, states and types as the record
//! itself names them, since their numbers are looked up. Contact points cannot: each goes by the changes that its list
//! needs. Nor can one degree of a position without the other.

use super::wire::{self, PointKind, address};
use crate::crm::{Field, NotSettable, Takes};

pub(super) fn settable(name: &str) -> Result<Field, NotSettable> {
    match name {
        wire::CONTACT_TYPE | wire::LAST_NAME => Ok(Field::required(Takes::Text)),
        wire::TITLE
        | wire::FIRST_NAME
        | address::LINE_1
        | address::LINE_2
        | address::CITY
        | address::STATE
        | address::COUNTRY
        | address::ZIP_CODE => Ok(Field::optional(Takes::Text)),
        wire::USED_FOR_TAX => Ok(Field::optional(Takes::Boolean)),
        address::LATITUDE | address::LONGITUDE => Err(NotSettable::Entry),
        "identity" | "contactTypeName" => Err(NotSettable::Id),
        name => match PointKind::of(name) {
            Some(PointKind::Reference) => Err(NotSettable::Reference),
            Some(_) => Err(NotSettable::Entry),
            None => Err(NotSettable::Unknown),
        },
    }
}
