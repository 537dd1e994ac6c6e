//! Log lines out of the programs: a debugging aid, compiled in by the feature `log` only.

/// Writes a line to the agent's log at level debug; nothing at all without the feature.
macro_rules! trace_event {
    ($ctx:expr, $($argument:tt)*) => {
        #[cfg(feature = "log")]
        aya_log_ebpf::debug!($ctx, $($argument)*);
    };
}

pub(crate) use trace_event;
