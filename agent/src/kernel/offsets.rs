//! The globals that tell the programs where the kernel's fields lie.

use agent_ebpf::contract::{
    io_uring::submit_passes,
    offsets::{COMPUTED, COPIED, FIELDS, REGS_ARGS, REGS_MODE},
};

use super::{
    btf::{Btf, BtfError},
    registers,
};

/// Offsets by global, and what could not be found.
pub(super) struct Offsets {
    pub(super) found: Vec<(&'static str, u64)>,
    pub(super) missing: Vec<(&'static str, BtfError)>,
}

impl Offsets {
    /// Looks up every field of the contract. What is missing is left to the programs that need it.
    pub(super) fn of(btf: &Btf) -> Self {
        let mut offsets = Self { found: Vec::new(), missing: Vec::new() };
        for field in FIELDS {
            offsets.note(field.global, btf.field_of_width(field.path, field.width));
        }
        for global in COMPUTED {
            offsets.note(global, computed(btf, global));
        }
        offsets
    }

    /// What is known without types.
    pub(super) fn of_registers() -> Self {
        let found = registers::PLACES.iter().map(|(global, place)| (*global, *place as u64)).collect();
        Self { found, missing: Vec::new() }
    }

    /// Whether the field behind this global was found.
    pub(super) fn has(&self, global: &str) -> bool {
        self.found.iter().any(|(name, _)| *name == global)
    }

    /// What a program copies through and this kernel lacks.
    pub(super) fn lacking(&self, program: &str) -> Option<&BtfError> {
        let copied = COPIED.iter().find(|(name, _)| *name == program).map_or(&[][..], |(_, globals)| globals);
        self.missing.iter().find(|(global, _)| copied.contains(global)).map(|(_, error)| error)
    }

    fn note(&mut self, global: &'static str, offset: Result<u64, BtfError>) {
        match offset {
            Ok(offset) => self.found.push((global, offset)),
            Err(error) => self.missing.push((global, error)),
        }
    }
}

fn computed(btf: &Btf, global: &str) -> Result<u64, BtfError> {
    match global {
        "CSS_SET_MEMORY" => {
            let width = btf.element_width("css_set.subsys")? as u64;
            Ok(btf.field("css_set.subsys")?.offset + width * index(btf, "memory_cgrp_id")?)
        }
        "MM_ANON_PAGES" => resident_pages(btf, "MM_ANONPAGES"),
        "MM_FILE_PAGES" => resident_pages(btf, "MM_FILEPAGES"),
        "MM_SHMEM_PAGES" => resident_pages(btf, "MM_SHMEMPAGES"),
        "SUBMIT_PASSES" => passed_by_submit_sqe(btf),
        "MOUNT_MNT" => Ok(btf.field("mount.mnt")?.offset),
        "REGS_ARG1" => argument(btf, 1),
        "REGS_ARG2" => argument(btf, 2),
        "REGS_ARG3" => argument(btf, 3),
        "REGS_ARG4" => argument(btf, 4),
        "REGS_ARG5" => argument(btf, 5),
        // Its width has changed.
        "REGS_MODE" => Ok(btf.field(REGS_MODE)?.offset),
        _ => Err(BtfError::NoField(global.to_owned())),
    }
}

/// Where the registers of a system call have one of its arguments.
fn argument(btf: &Btf, index: usize) -> Result<u64, BtfError> {
    match REGS_ARGS {
        [array] => Ok(btf.field(array)?.offset + u64::from(btf.element_width(array)?) * index as u64),
        fields => btf.field_of_width(fields.get(index - 1).copied().unwrap_or_default(), 8),
    }
}

/// Where `mm_struct` counts resident pages of one kind.
fn resident_pages(btf: &Btf, kind: &str) -> Result<u64, BtfError> {
    let index = index(btf, kind)?;
    // Since 6.2 an array of per-CPU counters, of which `count` is the sum that the kernel itself reports.
    if let Ok(width) = btf.element_width("mm_struct.rss_stat") {
        let counter = btf.field_of_width("percpu_counter.count", 8)?;
        return Ok(btf.field("mm_struct.rss_stat")?.offset + width as u64 * index + counter);
    }
    let width = btf.element_width("mm_struct.rss_stat.count")? as u64;
    Ok(btf.field("mm_struct.rss_stat.count")?.offset + width * index)
}

/// What `io_uring_submit_sqe` passes here, if the task that it runs in tells whose the request is.
fn passed_by_submit_sqe(btf: &Btf) -> Result<u64, BtfError> {
    let arguments = btf.tracepoint("io_uring_submit_sqe")?;
    // Without that function, who polls a ring is a thread of the kernel's own.
    btf.function("create_io_thread")?;
    if arguments.first().is_some_and(|first| first.as_deref() == Some("io_kiocb")) {
        return Ok(submit_passes::REQUEST);
    }
    // The trace's record has the names that a prototype lacks; since there is this one, it stands in second place.
    btf.field("trace_event_raw_io_uring_submit_sqe.req").map(|_| submit_passes::UNTYPED_REQUEST)
}

fn index(btf: &Btf, constant: &str) -> Result<u64, BtfError> {
    u64::try_from(btf.constant(constant)?).map_err(|_| BtfError::NoConstant(constant.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_found_in_a_kernel_with_btf() {
        let Ok(btf) = Btf::from_system() else {
            return println!("skipped: this kernel shows no BTF");
        };
        let offsets = Offsets::of(&btf);
        assert_eq!(offsets.found.len() + offsets.missing.len(), FIELDS.len() + COMPUTED.len());
        assert!(offsets.has("TASK_TGID") && offsets.has("MM_ANON_PAGES"));
        // A kernel may be built without v1 memory cgroups, and has one of two hooks for io_uring; everything else is
        // there in all that are supported.
        let may_lack = ["MEMCG_OOM_LOCK", "SUBMIT_PASSES", "SUBMIT_REQ_RECORD"];
        for (global, error) in &offsets.missing {
            assert!(may_lack.contains(global), "{error}");
        }
        assert!(offsets.has("SUBMIT_PASSES") != offsets.has("SUBMIT_REQ_RECORD"));
    }

    #[test]
    fn what_is_copied_is_looked_up() {
        for (program, globals) in COPIED {
            for global in *globals {
                let known = FIELDS.iter().any(|field| field.global == *global) || COMPUTED.contains(global);
                assert!(known, "{program}: {global}");
            }
        }
    }
}
