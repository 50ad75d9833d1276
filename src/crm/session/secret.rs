//! Where a secret comes from.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use super::SessionError;
use crate::privacy::Secret;

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    Variable(String),
    File(PathBuf),
}

impl SecretSource {
    /// From the two settings of which exactly one is to be set.
    pub fn new(variable: Option<&str>, file: Option<&Path>) -> Result<Self, SessionError> {
        match (variable, file) {
            (Some(name), None) => Ok(Self::Variable(name.to_owned())),
            (None, Some(path)) => Ok(Self::File(path.to_owned())),
            (None, None) | (Some(_), Some(_)) => Err(SessionError::NoSource),
        }
    }

    /// The secret without white space around it. Blocks for the time of reading a small file.
    pub fn read(&self) -> Result<Secret, SessionError> {
        let text = match self {
            Self::Variable(name) => {
                #[expect(clippy::disallowed_methods, reason = "the configuration names the variable, never its value")]
                let value = std::env::var(name);
                value.map_err(|_unset| SessionError::Variable { name: name.clone() })?
            }
            Self::File(path) => {
                let read = std::fs::read_to_string(path);
                read.map_err(|source| SessionError::File { path: path.clone(), source })?
            }
        };
        let text = text.trim();
        if text.is_empty() { Err(SessionError::Malformed) } else { Ok(Secret::new(text)) }
    }
}

/// Replaces what `path` holds, in one step and readable for this user alone. Blocks for the time of writing a small file.
pub(super) fn replace(path: &Path, secret: &Secret) -> Result<(), SessionError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(secret.expose().as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|source| SessionError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_one_place() {
        let unset = SecretSource::Variable("CONTACT_REPLICATOR_NO_SUCH_VARIABLE".to_owned());
        assert!(matches!(unset.read(), Err(SessionError::Variable { .. })));
        // Cargo sets it for every test.
        assert!(SecretSource::Variable("CARGO_PKG_NAME".to_owned()).read().is_ok());
        assert!(matches!(SecretSource::new(None, None), Err(SessionError::NoSource)));
        assert!(matches!(SecretSource::new(Some("A"), Some(Path::new("a"))), Err(SessionError::NoSource)));
    }

    #[test]
    fn white_space_around_a_secret_is_none_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let source = SecretSource::File(path.clone());
        assert!(matches!(source.read(), Err(SessionError::File { .. })));
        std::fs::write(&path, " a b\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "a b");
        std::fs::write(&path, " \n").unwrap();
        assert!(matches!(source.read(), Err(SessionError::Malformed)));
    }
}
