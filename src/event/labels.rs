//! Closed lists of labels: an enum whose variants have one name each, in JSON, in metrics and in messages.

/// Declares an enum with, besides serde and its JSON Schema, `ALL`, `as_str` and `Display`, all from one list.
macro_rules! labels {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $( $(#[$variant_attribute:meta])* $variant:ident = $label:literal, )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[derive(schemars::JsonSchema)]
        pub enum $name {
            $( $(#[$variant_attribute])* #[serde(rename = $label)] $variant, )+
        }

        impl $name {
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )+ ];

            /// Its name in JSON and in labels of metrics.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $label, )+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use labels;
