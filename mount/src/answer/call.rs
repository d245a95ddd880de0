//! What a request is called in the log: one span, one line when it was answered.

use covefs_cache::{Asked, Error, ErrorKind};
use fuser::Errno;
use tracing::{Level, Span, debug, debug_span, error, field};

/// A request's name and arguments, for the log.
pub(crate) struct Call {
    op: &'static str,
    req: u64,
    ino: u64,
    fh: Option<u64>,
    offset: Option<u64>,
    len: Option<u64>,
    /// When it was asked first. Kept over the repeats: what was verified since is fresh enough.
    pub(super) asked: Asked,
    span: Option<Span>,
}

impl Call {
    /// The request `req` of the kernel, on this node (of names: on their directory).
    pub(crate) fn new(op: &'static str, req: u64, ino: u64) -> Self {
        Call { op, req, ino, fh: None, offset: None, len: None, asked: Asked::now(), span: None }
    }

    /// By this handle.
    pub(crate) fn fh(mut self, fh: u64) -> Self {
        self.fh = Some(fh);
        self
    }

    /// From here on.
    pub(crate) fn offset(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// So many bytes.
    pub(crate) fn len(mut self, len: u64) -> Self {
        self.len = Some(len);
        self
    }

    /// The span to be in while something is done for it.
    pub(super) fn span(&mut self) -> Span {
        let Call { op, req, ino, fh, offset, len, .. } = *self;
        let open = || debug_span!("request", op, req, ino, fh, offset, len);
        self.span.get_or_insert_with(open).clone()
    }

    /// Logs that it went well.
    pub(super) fn log_answered(&self) {
        if tracing::enabled!(Level::DEBUG) {
            self.log_debug(0, field::Empty);
        }
    }

    /// Logs an error that the filesystem answered with. Most are everyday (no such file) or said
    /// elsewhere (offline); an I/O error is for a person to look at.
    pub(super) fn log_error(&self, error: &Error, errno: Errno) {
        let Call { op, ino, fh, offset, len, .. } = *self;
        if error.kind == ErrorKind::Io {
            error!(op, ino, fh, offset, len, %error, "request failed");
        } else if tracing::enabled!(Level::DEBUG) {
            self.log_debug(errno.code(), field::display(error));
        }
    }

    /// Logs what must never happen.
    pub(super) fn log_bug(&self, what: &str, message: &str) {
        let Call { op, req, ino, fh, offset, len, .. } = *self;
        error!(op, req, ino, fh, offset, len, message, "request {what}; answered with EIO");
    }

    /// The span says the rest.
    fn log_debug(&self, errno: i32, error: impl field::Value) {
        let us = self.asked.since.elapsed().as_micros() as u64;
        debug!(errno, us, error, "answered");
    }
}
