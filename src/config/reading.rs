//! A file of settings as it was read: what holds, where each value is from, and all that is wrong with it.

use std::{fs, path::Path};

use toml::Table;

use super::{Effective, Fault, Settings, Surroundings, effective::effective, load::load, places::Places};

/// What became of a file of settings. [`Settings`] come out of it only if nothing is wrong.
#[derive(Debug)]
pub struct Reading {
    /// Every key, also of a file with faults. Empty if the file cannot be read at all.
    pub effective: Vec<Effective>,
    /// All that is wrong, in the order of the file.
    pub faults: Vec<Fault>,
    settings: Option<Box<Settings>>,
    places: Places,
}

impl Reading {
    /// Reads `file`; that it cannot be read is a fault like any other.
    pub fn of_file(file: &Path, surroundings: Surroundings<'_>) -> Self {
        match fs::read_to_string(file) {
            Ok(text) => Self::of(&text, surroundings),
            Err(error) => Self::failed(Fault {
                key: String::new(),
                value: None,
                line: None,
                reason: format!("the file cannot be read: {error}"),
                remedy: "name an existing file of settings that this user may read".into(),
            }),
        }
    }

    /// The same of a text that was read already.
    pub fn of(text: &str, surroundings: Surroundings<'_>) -> Self {
        let places = match Places::of(text) {
            Ok(places) => places,
            Err(fault) => return Self::failed(fault),
        };
        let file: Table = text.parse().expect("what has places is TOML");
        let (settings, laid, mut faults) = load(file, surroundings);
        let effective = effective(&laid, &places, &faults, surroundings);
        for fault in &mut faults {
            fault.line = places.nearest(&fault.key);
        }
        faults.sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        let settings = faults.is_empty().then(|| Box::new(settings));
        Self { effective, faults, settings, places }
    }

    fn failed(fault: Fault) -> Self {
        Self { effective: Vec::new(), faults: vec![fault], settings: None, places: Places::default() }
    }

    /// What holds, if nothing is wrong.
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_deref()
    }

    /// # Errors
    /// All that is wrong.
    pub fn into_settings(self) -> Result<Settings, Vec<Fault>> {
        self.settings.map(|settings| *settings).ok_or(self.faults)
    }

    /// Where a key stands in the file, or would have to; counted from 1.
    pub fn line(&self, key: &str) -> Option<usize> {
        self.places.nearest(key)
    }
}
