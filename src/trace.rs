//! Spans and events for a subscriber of the host's with feature `tracing`, and nothing without it.

/// Reports what has happened: a level, then fields and message as the macros of `tracing` take them.
macro_rules! event {
    ($level:ident, $($fields:tt)*) => {
        #[cfg(feature = "tracing")]
        ::tracing::$level!($($fields)*);
    };
}

pub(crate) use event;

/// Runs a job's `future` inside a span of its own.
#[cfg(feature = "tracing")]
pub(crate) fn in_job_span<F: Future>(
    namespace: &str,
    kind: &str,
    future: F,
) -> impl Future<Output = F::Output> + use<F> {
    tracing::Instrument::instrument(future, tracing::info_span!("firnline.job", namespace, kind))
}

/// Runs a job's `future`.
#[cfg(not(feature = "tracing"))]
pub(crate) fn in_job_span<F: Future>(_namespace: &str, _kind: &str, future: F) -> F {
    future
}
