//! Secrets: never in the file, but in a variable of the environment or in a file of their own that it names.
//!
//! A key `x_env` names a variable, `x_file` a path; one of them is given. White space around the value is dropped,
//! since editors and `echo` leave a line end. A secret that is missing is a fault that says which variable or file was
//! looked for; what was found is never shown, and neither is a "name" that looks as if somebody had put the secret there.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::fault::Faults;
use crate::privacy::Secret;

/// What the settings are read from besides their file. Tests pass their own.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub file: &'a dyn Fn(&Path) -> io::Result<String>,
    pub host_name: &'a dyn Fn() -> String,
}

impl Surroundings<'static> {
    /// The environment, files and host name of this process.
    pub fn process() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment for settings")]
        fn variable(name: &str) -> Option<String> {
            std::env::var(name).ok()
        }
        fn host_name() -> String {
            gethostname::gethostname().to_string_lossy().into_owned()
        }
        Self { variable: &variable, file: &|path| fs::read_to_string(path), host_name: &host_name }
    }
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

/// Reads the secret that the keys `<stem>_env` and `<stem>_file` point to; `None` if it cannot be had, which `faults`
/// then tells.
pub(super) fn fetch(
    stem: &str,
    variable: Option<&str>,
    file: Option<&PathBuf>,
    surroundings: Surroundings<'_>,
    faults: &mut Faults,
) -> Option<Secret> {
    let (by_variable, by_file) = (format!("{stem}_env"), format!("{stem}_file"));
    if faults.holds_any(&[&by_variable, &by_file]) {
        return None;
    }
    let (key, found) = match (variable, file) {
        (Some(_), Some(_)) => {
            faults.add(&by_variable, None, format!("{by_file} is given too"), "keep one of the two");
            return None;
        }
        (None, None) => {
            let remedy = format!("name an environment variable here, or a file in {by_file}");
            faults.add(&by_variable, None, "nothing says where this secret is", remedy);
            return None;
        }
        (Some(name), None) if !is_variable_name(name) => {
            let remedy = "give the name of a variable (A-Z, 0-9, _), not the secret itself";
            faults.add(&by_variable, None, "this is not the name of an environment variable", remedy);
            return None;
        }
        (Some(name), None) => match (surroundings.variable)(name) {
            Some(text) => (by_variable, text),
            None => {
                let reason = format!("the environment variable {name} is not set");
                faults.add(
                    &by_variable,
                    Some(name.to_owned()),
                    reason,
                    format!("set {name}, or name a file in {by_file}"),
                );
                return None;
            }
        },
        (None, Some(path)) => (by_file.clone(), read(&by_file, path, surroundings, faults)?),
    };
    filled(&key, &found, faults)
}

/// As [`fetch`], of a secret that the program keeps up to date, and that therefore has a file.
pub(super) fn fetch_kept(
    stem: &str,
    file: Option<&PathBuf>,
    surroundings: Surroundings<'_>,
    faults: &mut Faults,
) -> Option<Secret> {
    let key = format!("{stem}_file");
    if faults.holds_any(&[&key]) {
        return None;
    }
    let Some(path) = file else {
        faults.add(&key, None, "nothing says where this secret is", "name a file that this program may write");
        return None;
    };
    filled(&key, &read(&key, path, surroundings, faults)?, faults)
}

/// As [`fetch_kept`], of a secret that a code brings, once: until then the code must be there, and from then on need not.
pub(super) fn fetch_granted(
    stem: &str,
    file: Option<&PathBuf>,
    code: (&str, Option<&str>, Option<&PathBuf>),
    surroundings: Surroundings<'_>,
    faults: &mut Faults,
) {
    let (code_stem, variable, code_file) = code;
    let Some(path) = file else {
        drop(fetch_kept(stem, None, surroundings, faults));
        return;
    };
    if variable.is_none() || code_file.is_none() {
        match (surroundings.file)(path) {
            Ok(kept) if !kept.trim().is_empty() => return,
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                drop(fetch_kept(stem, file, surroundings, faults));
                return;
            }
            Ok(_) | Err(_) => {}
        }
    }
    fetch(code_stem, variable, code_file, surroundings, faults);
}

fn read(key: &str, path: &Path, surroundings: Surroundings<'_>, faults: &mut Faults) -> Option<String> {
    let read = (surroundings.file)(path);
    if let Err(error) = &read {
        let reason = format!("the file cannot be read: {}", error.kind());
        faults.add(key, Some(path.display().to_string()), reason, "create it, readable for this user alone");
    }
    read.ok()
}

fn filled(key: &str, found: &str, faults: &mut Faults) -> Option<Secret> {
    let secret = found.trim();
    if secret.is_empty() {
        faults.add(key, None, "the secret found there is empty", "put the secret there");
        return None;
    }
    Some(Secret::new(secret))
}

pub(super) fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
}
