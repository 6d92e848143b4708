//! One opaque error whose kind tells the host what to do.

use std::error::Error as StdError;
use std::fmt;

use crate::printable::printable;

/// Result of every fallible operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a host should do about an [`Error`].
///
/// A kind exists only where a host would act differently on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Somebody else changed what was about to be changed: reload, then try again.
    Conflict,
    /// An input is bad: set it aside, the rest can go on.
    Data,
    /// A lane stopped because its register or its table is not what it should be: an operator decides.
    Halted,
    /// A bug in this crate: report it.
    Internal,
    /// A configuration or an argument is wrong: correct it.
    Invalid,
    /// A store or a catalog did not answer as it should: try again later.
    Unavailable,
    /// The table, the store or the file asks for something this crate does not do.
    Unsupported,
}

impl ErrorKind {
    /// The kind as a lowercase word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Data => "data",
            Self::Halted => "halted",
            Self::Internal => "internal",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of this crate and of the traits that a host implements.
///
/// Its message names the operation and the object; the cause is in
/// [`source`](StdError::source) and not repeated in the message.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

type BoxError = Box<dyn StdError + Send + Sync + 'static>;

impl Error {
    /// An error of `kind` with `message` (lowercase, no full stop, variables last).
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            source: None,
        }))
    }

    /// Adds the cause of this error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Wraps a typed error of a room of this crate: its own message and cause are kept.
    pub(crate) fn wrap<E: StdError + Send + Sync + 'static>(kind: ErrorKind, error: E) -> Self {
        let message = error.to_string();
        match error.source() {
            // The typed error stays reachable, so that nothing of its fields is lost.
            Some(_) => Self::new(kind, message).with_source(Transparent(error)),
            None => Self::new(kind, message),
        }
    }

    /// What the host should do about this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later without anything being changed by hand.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Conflict | ErrorKind::Unavailable)
    }

    /// Whether an object is there that is not what it should be: to read it again does not help.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Data | ErrorKind::Unsupported)
    }

    /// The error of an object-store operation on `object`.
    ///
    /// No kind is derived that would prove that a write did not happen: only reading decides that.
    pub fn from_store(operation: &str, object: impl fmt::Display, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let (kind, hint) = match &error {
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => (ErrorKind::Conflict, ""),
            E::InvalidPath { .. } => (ErrorKind::Invalid, ""),
            E::NotImplemented { .. } | E::NotSupported { .. } => {
                (ErrorKind::Unsupported, "the store cannot do what is needed; ")
            }
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => (
                ErrorKind::Unavailable,
                "the store denies access, is it read-only or are credentials missing? ",
            ),
            _ => (ErrorKind::Unavailable, ""),
        };
        Self::new(kind, format!("{hint}{operation} failed. object=`{object}`")).with_source(error)
    }

    /// This error and its causes, outermost first, on one line, each once.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Errors of others often repeat their cause in their own message.
            let text = printable(error).to_string();
            if !line.ends_with(&text) {
                line.push_str(": ");
                line.push_str(&text);
            }
            cause = error.source();
        }
        line
    }
}

/// Shows only the cause of an error whose own message has been taken over.
#[derive(Debug)]
struct Transparent<E>(E);

impl<E: StdError> fmt::Display for Transparent<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(source) => fmt::Display::fmt(source, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl<E: StdError> StdError for Transparent<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source().and_then(StdError::source)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printable(&self.0.message).fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer. n=`1`")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn a_chain_names_each_cause_once() {
        let cause = "x".parse::<u8>().unwrap_err();
        let error = Error::wrap(ErrorKind::Data, Outer(cause));
        assert_eq!(error.chain(), "outer. n=`1`: invalid digit found in string");
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(!error.is_retryable());
    }

    #[test]
    fn a_cause_that_a_message_repeats_is_named_once_in_a_chain() {
        let generic = |source: BoxError| object_store::Error::Generic { store: "Local", source };
        let cause = std::io::Error::other("no space left");
        let error = Error::from_store("put", "data/x", generic(generic(cause.into()).into()));
        assert_eq!(
            error.chain(),
            "put failed. object=`data/x`: Generic Local error: Generic Local error: no space left"
        );
    }

    #[test]
    fn a_read_only_store_is_named_as_such() {
        let denied = object_store::Error::PermissionDenied {
            path: "data/x".into(),
            source: "403".into(),
        };
        let error = Error::from_store("put", "data/x", denied);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("read-only"), "{error}");
    }
}
