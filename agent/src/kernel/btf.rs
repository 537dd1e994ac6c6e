//! The kernel's types: where a field lies, what a hook passes, which number a constant has.
//!
//! A small reader of BTF (Documentation/bpf/btf.rst in the kernel's tree) for `/sys/kernel/btf/vmlinux`. It knows
//! just enough to answer these questions and refuses what it can't vouch for: bit-fields, other widths.

use std::{fs, io};

/// Where a running kernel shows its types.
pub const SYSTEM_BTF: &str = "/sys/kernel/btf/vmlinux";

#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    #[error("{SYSTEM_BTF}: {0}; the kernel must be built with CONFIG_DEBUG_INFO_BTF=y")]
    Unreadable(#[from] io::Error),
    #[error("{SYSTEM_BTF} is malformed: {0}")]
    Malformed(&'static str),
    #[error("this kernel has no `struct {0}`")]
    NoStruct(String),
    #[error("this kernel has no field `{0}`")]
    NoField(String),
    #[error("the field `{path}` is {found} bytes wide here, not {expected}")]
    Width { path: String, found: u32, expected: u32 },
    #[error("this kernel has no constant `{0}`")]
    NoConstant(String),
    #[error("this kernel has no tracepoint `{0}`")]
    NoTracepoint(String),
    #[error("this kernel has no function `{0}`")]
    NoFunction(String),
}

/// The types of one kernel.
pub struct Btf {
    bytes: Vec<u8>,
    /// Position of each type, by id; 0 is void.
    types: Vec<u32>,
    strings: usize,
    /// Names are not copied: there are a hundred thousand, of which a hundred are asked for. Structures by the hash of
    /// theirs, sorted.
    structs: Vec<(u64, u32)>,
    traces: Vec<u32>,
    /// Position of each enumerator.
    constants: Vec<u32>,
}

/// Where a field lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Bytes from the start of the outermost structure.
    pub offset: u64,
    /// Bytes of the field itself.
    pub width: u32,
    /// Id of the field's type.
    type_id: usize,
}

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_FLOAT: u32 = 16;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

const HEADER_LEN: u32 = 24;
/// What the name of each tracepoint's type begins with.
const TRACE: &str = "btf_trace_";

/// Modifiers and nested anonymous members never go deeper than this in a sane kernel.
const DEPTH_MAX: u32 = 32;

impl Btf {
    /// Reads the running kernel's types.
    pub fn from_system() -> Result<Self, BtfError> {
        Self::parse(fs::read(SYSTEM_BTF)?)
    }

    /// Reads types out of the raw section.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let mut btf = Self {
            bytes,
            types: vec![0],
            strings: 0,
            structs: Vec::new(),
            traces: Vec::new(),
            constants: Vec::new(),
        };
        btf.index()?;
        Ok(btf)
    }

    /// Where `struct.field[.field…]` lies.
    pub fn field(&self, path: &str) -> Result<Location, BtfError> {
        let no_field = || BtfError::NoField(path.to_owned());
        let mut parts = path.split('.');
        let name = parts.next().unwrap_or_default();
        let type_id = self.structure(name).ok_or_else(|| BtfError::NoStruct(name.to_owned()))?;
        let mut location = Location { offset: 0, width: 0, type_id };
        for part in parts {
            let member = self.member(location.type_id, part, 0).ok_or_else(no_field)?;
            location = Location { offset: location.offset + member.offset, ..member };
        }
        location.width = self.size(location.type_id, 0).ok_or_else(no_field)?;
        Ok(location)
    }

    /// The same, for a field that must be `width` bytes wide.
    pub fn field_of_width(&self, path: &str, width: u32) -> Result<u64, BtfError> {
        let Location { offset, width: found, type_id: _ } = self.field(path)?;
        if found == width {
            Ok(offset)
        } else {
            Err(BtfError::Width { path: path.to_owned(), found, expected: width })
        }
    }

    /// Bytes of one element of an array field.
    pub fn element_width(&self, path: &str) -> Result<u32, BtfError> {
        let location = self.field(path)?;
        self.array(self.stripped(location.type_id))
            .and_then(|(element, _)| self.size(element, 0))
            .ok_or_else(|| BtfError::NoField(format!("{path}[]")))
    }

    /// The value of an enumerator, whichever enum it is of.
    pub fn constant(&self, name: &str) -> Result<i64, BtfError> {
        let mut enumerators = self.enumerators();
        let found = enumerators.find(|(found, _)| *found == name);
        found.map(|(_, value)| value).ok_or_else(|| BtfError::NoConstant(name.to_owned()))
    }

    /// The enumerators whose names begin with `prefix`: the rest of the name, and the value. Where several enums have
    /// one of a name, the one that counts comes last.
    pub fn constants_of<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, i64)> {
        self.enumerators().rev().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value)))
    }

    fn enumerators(&self) -> impl DoubleEndedIterator<Item = (&str, i64)> {
        self.constants.iter().filter_map(|at| {
            let at = *at as usize;
            Some((self.name(at)?, self.u32(at + 4)?.cast_signed().into()))
        })
    }

    /// The first structure of this name.
    fn structure(&self, name: &str) -> Option<usize> {
        let hash = hash(name.as_bytes());
        let first = self.structs.partition_point(|(other, _)| *other < hash);
        let same = self.structs[first..].iter().take_while(|(other, _)| *other == hash);
        let mut ids = same.map(|(_, id)| *id as usize);
        ids.find(|id| self.name_of(*id) == Some(name))
    }

    /// What a kernel function takes, in the same way as [`Self::tracepoint`].
    pub fn function(&self, name: &str) -> Result<Vec<Option<String>>, BtfError> {
        let no_function = || BtfError::NoFunction(name.to_owned());
        let id = self.function_id(name).ok_or_else(no_function)?;
        let proto = self.referred(id).ok_or_else(no_function)?;
        self.arguments(proto, 0).ok_or_else(no_function)
    }

    fn function_id(&self, name: &str) -> Option<usize> {
        let is_it = |id: &usize| self.kind(*id) == KIND_FUNC && self.name_of(*id) == Some(name);
        (1..self.types.len()).find(is_it)
    }

    /// What a tracepoint passes: for each argument the structure that it points to, or `None` for anything else.
    pub fn tracepoint(&self, name: &str) -> Result<Vec<Option<String>>, BtfError> {
        let no_tracepoint = || BtfError::NoTracepoint(name.to_owned());
        // `btf_trace_NAME` is a typedef of a pointer to a function, whose first argument is the probe's own data.
        let proto = self
            .trace(name)
            .and_then(|id| self.pointee(id))
            .filter(|id| self.kind(*id) == KIND_FUNC_PROTO)
            .ok_or_else(no_tracepoint)?;
        self.arguments(proto, 1).ok_or_else(no_tracepoint)
    }

    /// The type by which a tracepoint is named when a program is loaded for it.
    pub fn tracepoint_id(&self, name: &str) -> Result<u32, BtfError> {
        let no_tracepoint = || BtfError::NoTracepoint(name.to_owned());
        let id = self.trace(name).ok_or_else(no_tracepoint)?;
        u32::try_from(id).map_err(|_| no_tracepoint())
    }

    /// Types that have nothing but the names and the places of these hooks: all that a loader looks up in the kernel's
    /// own, at a fiftieth of the memory that it would need for those.
    pub(super) fn only(&self, tracepoints: &[&str], functions: &[&str]) -> Vec<u8> {
        let traces = tracepoints
            .iter()
            .filter_map(|name| Some((self.trace(name)?, KIND_TYPEDEF, format!("{TRACE}{name}"))));
        let functions = functions
            .iter()
            .filter_map(|name| Some((self.function_id(name)?, KIND_FUNC, (*name).to_owned())));
        let named: Vec<_> = traces.chain(functions).collect();
        let last = named.iter().map(|(id, ..)| *id).max().unwrap_or(0);
        // Whatever else there is becomes the declaration of a nameless structure: the smallest type.
        let mut types = [0u32, KIND_FWD << 24, 0].repeat(last);
        let mut strings = vec![0];
        for (id, kind, name) in &named {
            types[3 * (id - 1)..][..2].copy_from_slice(&[strings.len() as u32, kind << 24]);
            strings.extend_from_slice(name.as_bytes());
            strings.push(0);
        }
        let types_len = (types.len() * 4) as u32;
        let header = [0x0001_eb9f, HEADER_LEN, 0, types_len, types_len, strings.len() as u32];
        let words = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes());
        words.chain(strings).collect()
    }

    fn trace(&self, name: &str) -> Option<usize> {
        let is_it =
            |id: &&u32| self.name_of(**id as usize).and_then(|found| found.strip_prefix(TRACE)) == Some(name);
        self.traces.iter().find(is_it).map(|id| *id as usize)
    }

    /// The structures that the arguments of a prototype point to, from the one of this number on.
    fn arguments(&self, proto: usize, first: usize) -> Option<Vec<Option<String>>> {
        let position = self.position(proto)?;
        (first..self.len(proto))
            .map(|i| self.u32(position + 12 + 8 * i + 4).map(|id| self.struct_pointed_to(id as usize)))
            .collect()
    }

    /// Position in the bytes of the number of elements of the array that a field points to: how an object says the
    /// type of a map.
    pub(super) fn length_of_array_at(&self, path: &str) -> Option<usize> {
        let array = self.pointee(self.field(path).ok()?.type_id)?;
        (self.kind(array) == KIND_ARRAY).then(|| self.position(array).map(|position| position + 20))?
    }

    fn index(&mut self) -> Result<(), BtfError> {
        let header = |at| self.u32(at).ok_or(BtfError::Malformed("no header"));
        if header(0)? & 0xffff != 0xeb9f {
            return Err(BtfError::Malformed("wrong magic"));
        }
        let header_len = header(4)? as usize;
        let (types_at, types_len) = (header_len + header(8)? as usize, header(12)? as usize);
        self.strings = header_len + header(16)? as usize;
        let end = types_at + types_len;
        // A type takes 30 bytes on average.
        self.types.reserve(types_len.min(self.bytes.len()) / 24);
        let mut position = types_at;
        while position < end {
            let id = self.types.len() as u32;
            self.types.push(u32::try_from(position).map_err(|_| BtfError::Malformed("too long"))?);
            let bad_name = || BtfError::Malformed("a name out of bounds");
            match self.kind(id as usize) {
                KIND_STRUCT if self.len(id as usize) > 0 => {
                    let name = self.raw_name(position).ok_or_else(bad_name)?;
                    if !name.is_empty() {
                        self.structs.push((hash(name), id));
                    }
                }
                KIND_TYPEDEF
                    if self.raw_name(position).ok_or_else(bad_name)?.starts_with(TRACE.as_bytes()) =>
                {
                    self.traces.push(id);
                }
                KIND_ENUM => {
                    let enumerators = 0..self.len(id as usize);
                    self.constants.extend(enumerators.map(|i| (position + 12 + 8 * i) as u32));
                }
                _ => {}
            }
            position += 12 + self.extra(id as usize).ok_or(BtfError::Malformed("an unknown kind of type"))?;
        }
        self.structs.sort_unstable();
        if position == end { Ok(()) } else { Err(BtfError::Malformed("types past their section")) }
    }

    /// A member of a structure or union, anonymous members descended.
    fn member(&self, id: usize, name: &str, depth: u32) -> Option<Location> {
        let id = self.stripped(id);
        if depth > DEPTH_MAX || !matches!(self.kind(id), KIND_STRUCT | KIND_UNION) {
            return None;
        }
        let position = self.position(id)?;
        let packed_bits = self.u32(position + 4)? >> 31 == 1;
        for i in 0..self.len(id) {
            let at = position + 12 + 12 * i;
            let (found, type_id, offset) = (self.name(at)?, self.u32(at + 4)? as usize, self.u32(at + 8)?);
            let (bits, bit_field) =
                if packed_bits { (offset & 0x00ff_ffff, offset >> 24 != 0) } else { (offset, false) };
            let offset = bits as u64 / 8;
            if found == name {
                // A field inside of a byte has no address.
                return (!bit_field && bits % 8 == 0).then_some(Location { offset, width: 0, type_id });
            }
            if found.is_empty()
                && let Some(inner) = self.member(type_id, name, depth + 1)
            {
                return Some(Location { offset: offset + inner.offset, ..inner });
            }
        }
        None
    }

    fn size(&self, id: usize, depth: u32) -> Option<u32> {
        let id = self.stripped(id);
        match self.kind(id) {
            KIND_PTR => Some(8),
            KIND_ARRAY if depth < DEPTH_MAX => {
                let (element, count) = self.array(id)?;
                self.size(element, depth + 1)?.checked_mul(count)
            }
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 | KIND_FLOAT => {
                self.u32(self.position(id)? + 8)
            }
            _ => None,
        }
    }

    fn array(&self, id: usize) -> Option<(usize, u32)> {
        (self.kind(id) == KIND_ARRAY).then_some(())?;
        let position = self.position(id)?;
        Some((self.u32(position + 12)? as usize, self.u32(position + 20)?))
    }

    fn struct_pointed_to(&self, id: usize) -> Option<String> {
        let target = self.pointee(id)?;
        (self.kind(target) == KIND_STRUCT).then(|| self.name_of(target).map(str::to_owned))?
    }

    fn pointee(&self, id: usize) -> Option<usize> {
        let id = self.stripped(id);
        (self.kind(id) == KIND_PTR).then_some(())?;
        Some(self.stripped(self.referred(id)?))
    }

    /// Follows typedefs, qualifiers and type tags.
    fn stripped(&self, mut id: usize) -> usize {
        for _ in 0..DEPTH_MAX {
            match self.kind(id) {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = self.referred(id).unwrap_or(0);
                }
                _ => break,
            }
        }
        id
    }

    /// 0, which is void, for an id out of range.
    fn kind(&self, id: usize) -> u32 {
        match self.position(id) {
            Some(position) if id > 0 => self.u32(position + 4).unwrap_or(0) >> 24 & 31,
            _ => 0,
        }
    }

    fn len(&self, id: usize) -> usize {
        self.position(id).and_then(|position| self.u32(position + 4)).unwrap_or(0) as usize & 0xffff
    }

    /// Bytes behind the common part of a type.
    fn extra(&self, id: usize) -> Option<usize> {
        let len = self.len(id);
        Some(match self.kind(id) {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * len,
            KIND_ENUM | KIND_FUNC_PROTO => 8 * len,
            kind if kind <= KIND_ENUM64 && kind > 0 => 0,
            _ => return None,
        })
    }

    fn position(&self, id: usize) -> Option<usize> {
        self.types.get(id).map(|position| *position as usize)
    }

    /// The type that a pointer, a typedef, a qualifier or a function refers to.
    fn referred(&self, id: usize) -> Option<usize> {
        Some(self.u32(self.position(id)? + 8)? as usize)
    }

    fn name_of(&self, id: usize) -> Option<&str> {
        self.name(self.position(id)?)
    }

    fn name(&self, position: usize) -> Option<&str> {
        std::str::from_utf8(self.raw_name(position)?).ok()
    }

    fn raw_name(&self, position: usize) -> Option<&[u8]> {
        let start = self.strings.checked_add(self.u32(position)? as usize)?;
        let rest = self.bytes.get(start..)?;
        let len = rest.iter().position(|byte| *byte == 0)?;
        Some(&rest[..len])
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(4)?)?;
        bytes.try_into().ok().map(u32::from_ne_bytes)
    }
}

/// FNV-1a: short, and good enough for names.
fn hash(name: &[u8]) -> u64 {
    name.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_types_are_refused_and_never_panic() {
        assert!(matches!(Btf::parse(Vec::new()), Err(BtfError::Malformed(_))));
        let mut header = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        header.extend([0u32, 0x7fff_ffff, 0, 0].iter().flat_map(|word| word.to_ne_bytes()));
        assert!(matches!(Btf::parse(header), Err(BtfError::Malformed(_))));
    }

    #[test]
    fn a_damaged_copy_of_the_system_types_never_panics() {
        let Ok(bytes) = fs::read(SYSTEM_BTF) else {
            return println!("skipped: this kernel shows no BTF");
        };
        for cut in [bytes.len() / 2, bytes.len() / 3, 1000, 25, 24] {
            let _ = Btf::parse(bytes[..cut].to_vec());
        }
        let mut seed = 1u64;
        for _ in 0..3 {
            let mut damaged = bytes.clone();
            for _ in 0..10_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (seed >> 20) as usize % damaged.len();
                damaged[at] ^= seed as u8;
            }
            if let Ok(btf) = Btf::parse(damaged) {
                let _ = btf.field("task_struct.tgid");
                let _ = btf.tracepoint("sys_exit");
            }
        }
    }

    #[test]
    fn the_system_types_answer() {
        let Ok(btf) = Btf::from_system() else {
            return println!("skipped: this kernel shows no BTF");
        };
        assert_eq!(btf.field("task_struct.tgid").unwrap().width, 4);
        assert_eq!(btf.field_of_width("task_struct.comm", 16).unwrap() % 4, 0);
        assert!(matches!(btf.field("task_struct.nonsense"), Err(BtfError::NoField(_))));
        assert!(matches!(btf.field("nonsense.tgid"), Err(BtfError::NoStruct(_))));
        assert!(matches!(btf.field_of_width("task_struct.tgid", 8), Err(BtfError::Width { .. })));
        assert_eq!(btf.tracepoint("sys_exit").unwrap(), [Some("pt_regs".to_owned()), None]);
        assert_eq!(btf.function("out_of_memory").unwrap(), [Some("oom_control".to_owned())]);
        assert!(matches!(btf.function("no_such_function"), Err(BtfError::NoFunction(_))));
        let memory = btf.constant("memory_cgrp_id").unwrap();
        assert!(memory >= 0);
        assert_eq!(btf.constants_of("memory_cgrp_").collect::<Vec<_>>(), [("id", memory)]);
    }

    #[test]
    fn a_loader_finds_the_hooks_where_they_are() {
        let Ok(btf) = Btf::from_system() else {
            return println!("skipped: this kernel shows no BTF");
        };
        let bytes = btf.only(&["sys_exit", "no_such_hook", "sched_switch"], &["out_of_memory"]);
        aya::Btf::parse(&bytes, aya::Endianness::default()).unwrap();
        let few = Btf::parse(bytes).unwrap();
        for hook in ["sys_exit", "sched_switch"] {
            assert_eq!(few.tracepoint_id(hook).unwrap(), btf.tracepoint_id(hook).unwrap());
        }
        assert_eq!(few.function_id("out_of_memory"), btf.function_id("out_of_memory"));
        assert!(few.function_id("out_of_memory").is_some());
        assert!(few.tracepoint_id("sched_process_exit").is_err());
    }
}
