//! The protections that the promises rest on, each with a name.
//!
//! A promise that holds without one of its protections was never tested: the suite switches each off in turn and expects
//! a named invariant to break. The switches exist under the cargo feature `mechanism-switches` only, which tests turn on;
//! without it [`Protections`] holds nothing, every protection holds, and the question costs nothing.

/// What keeps a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protection {
    /// An entry up to the link's `answered` is a replay.
    Answered,
    /// The parked entry, met again, is a replay.
    Open,
    /// An entry up to the last settled version is answered without a call.
    Settled,
    /// What may or may not have reached the CRM equals nothing.
    VoidSent,
    /// After a lost answer only the identical request follows before it must have landed.
    LostWait,
    /// A contact that may exist is searched for before it is created.
    LookUp,
    /// Where a search before each create is not enough, the keys of a create are committed before it leaves.
    Intent,
    /// A new owner makes its predecessor unable to commit.
    Fence,
    /// A new owner waits until no open transaction holds the committed offset.
    StableOffsets,
    /// A new owner waits until its view holds the links that were committed.
    LinksCatchUp,
    /// A new owner waits until its view holds the records that were committed.
    RecordsCatchUp,
    /// After a predecessor that did not release, the first request waits until the last of theirs must have landed.
    TakeoverWait,
    /// What such a predecessor may have been sending is sent again, even if it looks unchanged.
    TakeoverResend,
    /// Results of an assignment that was lost are dropped.
    AssignmentNumber,
    /// A transaction and a request check that their partitions are still owned.
    OwnMap,
    /// A decision is read back from the overlay until the view holds it.
    Overlay,
}

impl Protection {
    pub const ALL: &'static [Self] = &[
        Self::Answered,
        Self::Open,
        Self::Settled,
        Self::VoidSent,
        Self::LostWait,
        Self::LookUp,
        Self::Intent,
        Self::Fence,
        Self::StableOffsets,
        Self::LinksCatchUp,
        Self::RecordsCatchUp,
        Self::TakeoverWait,
        Self::TakeoverResend,
        Self::AssignmentNumber,
        Self::OwnMap,
        Self::Overlay,
    ];
}

/// Which protections hold: all of them, unless a test says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Protections {
    #[cfg(feature = "mechanism-switches")]
    off: u32,
}

impl Protections {
    /// These, but for `protection`.
    #[cfg(feature = "mechanism-switches")]
    #[must_use]
    pub fn without(self, protection: Protection) -> Self {
        Self { off: self.off | 1 << protection as u32 }
    }

    #[cfg(feature = "mechanism-switches")]
    pub fn hold(self, protection: Protection) -> bool {
        self.off & (1 << protection as u32) == 0
    }

    #[cfg(not(feature = "mechanism-switches"))]
    #[inline]
    pub fn hold(self, _protection: Protection) -> bool {
        true
    }
}

#[cfg(all(test, feature = "mechanism-switches"))]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_switched_off_leaves_the_others_on() {
        for off in Protection::ALL {
            let protections = Protections::default().without(*off);
            for asked in Protection::ALL {
                assert_eq!(protections.hold(*asked), asked != off, "{asked:?} without {off:?}");
            }
        }
    }
}
