//! What series are told apart by (`metrics.detail`), besides the workload.

use std::{collections::HashMap, fmt, sync::Arc};

use super::{
    budget::without,
    labels::Texts,
    page::{Family, Sample},
};
use crate::identity::Labels;

/// What is told. What isn't is summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// And the pod.
    pub container: bool,
    /// And their classes, and the opcodes of io_uring.
    pub syscall: bool,
    pub peer: bool,
    pub errno: bool,
}

impl Default for Detail {
    fn default() -> Self {
        Self::ALL
    }
}

impl Detail {
    pub const ALL: Self = Self { container: true, syscall: true, peer: true, errno: true };
    pub const NONE: Self = Self { container: false, syscall: false, peer: false, errno: false };
    /// From the coarsest on.
    pub const NAMES: [&'static str; 4] = ["container", "syscall", "peer", "errno"];

    /// The one of this name.
    pub fn part(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "container" => Some(&mut self.container),
            "syscall" => Some(&mut self.syscall),
            "peer" => Some(&mut self.peer),
            "errno" => Some(&mut self.errno),
            _ => None,
        }
    }

    /// The base labels as they are shown.
    pub(super) fn shown(self, labels: &Arc<Labels>) -> Arc<Labels> {
        if self.container { Arc::clone(labels) } else { Arc::new(labels.of_workload()) }
    }

    fn leaves_out(self, label: &str) -> bool {
        match label {
            "syscall" | "class" | "opcode" => !self.syscall,
            "peer_namespace" | "peer_workload" => !self.peer,
            "errno" => !self.errno,
            _ => false,
        }
    }

    /// Takes the labels out that are not told, and sums up what they told apart.
    pub(super) fn apply(self, family: &mut Family) {
        if !family.names.iter().any(|name| self.leaves_out(name)) {
            return;
        }
        let mut texts = Texts::default();
        let mut by_text: HashMap<String, u32> = HashMap::new();
        let owns: Vec<u32> = family
            .own
            .iter()
            .map(|text| {
                let text = without(text, &family.names, |name| self.leaves_out(name));
                *by_text.entry(text).or_insert_with_key(|text| texts.push(text))
            })
            .collect();
        family.marks.iter_mut().for_each(|mark| mark.own = owns[mark.own as usize]);
        let width = family.width();
        let mut samples: Vec<Sample> = Vec::new();
        // Those of one base stand together.
        let mut begin = 0;
        for sample in std::mem::take(&mut family.samples) {
            if samples.last().is_some_and(|last| last.base != sample.base) {
                begin = samples.len();
            }
            let own = owns[sample.own as usize];
            match samples[begin..].iter_mut().find(|sum| sum.own == own) {
                None => samples.push(Sample { own, ..sample }),
                Some(sum) if width == 1 => sum.value += sample.value,
                Some(sum) => {
                    let (to, from) = (sum.value as usize, sample.value as usize);
                    for at in 0..width {
                        family.counts[to + at] += family.counts[from + at];
                    }
                }
            }
        }
        family.samples = samples;
        family.own = texts;
        family.names.to_mut().retain(|name| !self.leaves_out(name));
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("all"),
            Self::NONE => f.write_str("none"),
            mut detail => {
                let told = Self::NAMES.into_iter().filter(|name| detail.part(name).is_some_and(|part| *part));
                f.write_str(&told.collect::<Vec<_>>().join(","))
            }
        }
    }
}
