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
    /// Another that need not be there, yet or any more: it then counts as empty.
    IfAny(Box<SecretSource>),
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
    ///
    /// # Errors
    /// If it is not there, or cannot be read. Of [`SecretSource::IfAny`], only the latter.
    pub fn read(&self) -> Result<Secret, SessionError> {
        let text = match self {
            Self::IfAny(source) => {
                return match source.read() {
                    Err(SessionError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                        Ok(Secret::new(""))
                    }
                    Err(SessionError::Variable { .. } | SessionError::Malformed) => Ok(Secret::new("")),
                    read => read,
                };
            }
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

/// Whether [`replace`] can be expected to succeed, before something is done whose result must not be lost. Blocks for the
/// time of making a small file.
pub(super) fn is_replaceable(path: &Path) -> Result<(), SessionError> {
    let made = tempfile::NamedTempFile::new_in(folder_of(path));
    made.map(drop).map_err(|source| SessionError::Write { path: path.to_owned(), source })
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Replaces what `path` holds, in one step and readable for this user alone. Blocks for the time of writing a small file.
pub(super) fn replace(path: &Path, secret: &Secret) -> Result<(), SessionError> {
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder_of(path))?;
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
    fn what_need_not_be_there_is_empty_and_what_cannot_be_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let if_any = |source| SecretSource::IfAny(Box::new(source));
        let source = if_any(SecretSource::File(path.clone()));
        assert_eq!(source.read().unwrap().expose(), "");
        std::fs::write(&path, " \n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "");
        std::fs::write(&path, "a\n").unwrap();
        assert_eq!(source.read().unwrap().expose(), "a");
        let unset = SecretSource::Variable("CONTACT_REPLICATOR_NO_SUCH_VARIABLE".to_owned());
        assert_eq!(if_any(unset).read().unwrap().expose(), "");
        let no_file = if_any(SecretSource::File(folder.path().to_owned()));
        assert!(matches!(no_file.read(), Err(SessionError::File { .. })), "a folder is no secret");
    }

    #[test]
    fn a_file_can_be_replaced_where_its_folder_is() {
        let folder = tempfile::tempdir().unwrap();
        is_replaceable(&folder.path().join("token")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of the try");
        let nowhere = is_replaceable(&folder.path().join("none/token"));
        assert!(matches!(nowhere, Err(SessionError::Write { .. })));
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
