//! What the programs take for constant: the values are set in the object, and become part of the instructions.
//!
//! A global in `.rodata` is known to the verifier, which drops the branches that it rules out; but the kernel still
//! loads it from memory each time, and the system calls' programs have dozens. So each load of a global is replaced by
//! a move of its value. Fields are loaded through their offset by one instruction, which says which field it means until the
//! offset is put there.

use std::collections::BTreeSet;

use agent_ebpf::contract::offsets::{COMPUTED, FIELDS, FIRST_PLACE};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind};

/// The section of the globals.
const GLOBALS: &str = ".rodata";
/// The section of the maps: definitions (`bpf_map_def` of libbpf's first versions), and where one has the bytes of its values.
const MAPS: &str = "maps";
const VALUE_SIZE: usize = 8;
/// Bytes of an instruction (`struct bpf_insn`, include/uapi/linux/bpf.h).
const INSTRUCTION: usize = 8;
/// `BPF_LD | BPF_IMM | BPF_DW`: a load of 64 bits out of the instruction and the one after it.
const LOAD_ADDRESS: u8 = 0x18;
/// `BPF_ALU | BPF_MOV | BPF_K`: the value, and zeros above.
const MOVE_32: u8 = 0xb4;
/// `BPF_ALU64 | BPF_MOV | BPF_K`: the value, its sign above.
const MOVE_64: u8 = 0xb7;
/// `BPF_JMP | BPF_JA` to the next instruction, which the verifier takes out.
const NOTHING: u8 = 0x05;
/// Bytes of a relocation (`Elf64_Rel`).
const RELOCATION: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum ConstantError {
    #[error("it is not an object file")]
    Object(#[from] object::Error),
    #[error("it has no globals")]
    NoGlobals,
    #[error("it has no global `{0}` of {1} bytes")]
    NoGlobal(&'static str, usize),
    #[error("it has no map `{0}`")]
    NoMap(&'static str),
}

#[derive(Default)]
pub(super) struct Constants {
    /// Values by the name of their global.
    values: Vec<(&'static str, Vec<u8>)>,
    /// Bytes of a value, by map.
    value_sizes: Vec<(&'static str, u32)>,
}

impl Constants {
    pub(super) fn set(&mut self, global: &'static str, value: impl Bytes) {
        self.values.push((global, value.bytes()));
    }

    /// Makes the values of a map so large.
    pub(super) fn set_value_size(&mut self, map: &'static str, bytes: u32) {
        self.value_sizes.push((map, bytes));
    }

    /// The object with the values in its globals and in the instructions that load them.
    pub(super) fn fold(&self, object: &[u8]) -> Result<Vec<u8>, ConstantError> {
        let mut folded = object.to_vec();
        let file = object::File::parse(object)?;
        let globals = file.section_by_name(GLOBALS).ok_or(ConstantError::NoGlobals)?;
        let (start, _) = globals.file_range().ok_or(ConstantError::NoGlobals)?;
        for (name, value) in &self.values {
            let symbol = file
                .symbols()
                .filter(|symbol| symbol.section_index() == Some(globals.index()))
                .find(|symbol| symbol.name() == Ok(name) && symbol.size() == value.len() as u64)
                .ok_or(ConstantError::NoGlobal(name, value.len()))?;
            let at = (start + symbol.address()) as usize;
            folded[at..at + value.len()].copy_from_slice(value);
        }
        for (name, bytes) in &self.value_sizes {
            let at = definition(&file, name).ok_or(ConstantError::NoMap(name))? + VALUE_SIZE;
            folded[at..at + size_of::<u32>()].copy_from_slice(&bytes.to_ne_bytes());
        }
        self.place_fields(&file, &mut folded);
        let values = folded[start as usize..][..globals.size() as usize].to_vec();
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let Some((code_at, length)) = section.file_range() else { continue };
            let code = &mut folded[code_at as usize..][..length as usize];
            let targets = jump_targets(code);
            let mut dropped = Vec::new();
            let mut kept = None;
            for (index, (at, relocation)) in section.relocations().enumerate() {
                let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
                let symbol = file.symbol_by_index(symbol)?;
                let load = (symbol.section_index() == Some(globals.index()))
                    .then(|| Load::find(code, at as usize, symbol.address(), &values, &targets))
                    .flatten();
                match load {
                    Some(load) if load.is_all(code) => dropped.push((index, load)),
                    Some(load) => {
                        load.replace_second(code);
                        kept = Some(index);
                    }
                    None => kept = Some(index),
                }
            }
            // What is no address any more must not be relocated. A relocation can't be taken out, but say twice what
            // another says; so one of them has to stay.
            let Some(relocations) = file.section_by_name(&format!(".rel{}", section.name()?)) else {
                continue;
            };
            let Some((relocations_at, _)) = relocations.file_range() else { continue };
            for (index, load) in dropped {
                let code = &mut folded[code_at as usize..][..length as usize];
                let Some(other) = kept else {
                    load.replace_second(code);
                    kept = Some(index);
                    continue;
                };
                load.replace_both(code);
                let entry = |index: usize| relocations_at as usize + index * RELOCATION;
                folded.copy_within(entry(other)..entry(other) + RELOCATION, entry(index));
            }
        }
        Ok(folded)
    }
}

impl Constants {
    /// Puts the offsets of fields into the instructions that load them. What isn't known becomes an offset that no load may
    /// have.
    fn place_fields(&self, file: &object::File<'_>, folded: &mut [u8]) {
        const NOWHERE: i16 = -1;
        let offset = |global: &str| {
            let (_, value) = self.values.iter().rev().find(|(name, _)| *name == global)?;
            i16::try_from(u64::from_ne_bytes(*value.first_chunk()?)).ok()
        };
        let places = FIELDS.iter().map(|field| field.global).chain(COMPUTED.iter().copied());
        let offsets: Vec<i16> = places.map(|global| offset(global).unwrap_or(NOWHERE)).collect();
        for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
            let Some((begin, length)) = section.file_range() else { continue };
            let code = &mut folded[begin as usize..][..length as usize];
            for instruction in code.as_chunks_mut::<INSTRUCTION>().0 {
                let [operation, _, offset @ ..] = instruction;
                let Some(offset) = offset.first_chunk_mut().filter(|_| width(*operation).is_some()) else {
                    continue;
                };
                let place = (i16::from_ne_bytes(*offset) as usize).checked_sub(FIRST_PLACE);
                if let Some(known) = place.and_then(|place| offsets.get(place)) {
                    *offset = known.to_ne_bytes();
                }
            }
        }
    }
}

/// What the object says of a map.
pub(super) struct Definition<'a> {
    pub(super) name: &'a str,
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) elements: u32,
}

/// All maps but those that are defined by types.
pub(super) fn definitions(object: &[u8]) -> Result<Vec<Definition<'_>>, ConstantError> {
    let file = object::File::parse(object)?;
    let Some(maps) = file.section_by_name(MAPS) else { return Ok(Vec::new()) };
    let of_maps =
        file.symbols().filter(|symbol| symbol.section_index() == Some(maps.index()) && symbol.size() > 0);
    let definitions = of_maps.filter_map(|symbol| {
        let words = maps.data().ok()?.get(symbol.address() as usize..)?.as_chunks().0;
        let [kind, key_size, value_size, elements] = words.first_chunk::<4>()?.map(u32::from_ne_bytes);
        Some(Definition { name: symbol.name().ok()?, kind, key_size, value_size, elements })
    });
    Ok(definitions.collect())
}

/// Where the object has the definition of a map.
fn definition(file: &object::File<'_>, map: &str) -> Option<usize> {
    let maps = file.section_by_name(MAPS)?;
    let is_it = |symbol: &object::Symbol<'_, '_>| {
        symbol.section_index() == Some(maps.index()) && symbol.name() == Ok(map)
    };
    let (start, _) = maps.file_range()?;
    Some((start + file.symbols().find(is_it)?.address()) as usize)
}

/// How many bytes an instruction loads through an address (`BPF_LDX | BPF_MEM`), if it is such a one.
fn width(operation: u8) -> Option<usize> {
    match operation {
        0x61 => Some(4),
        0x69 => Some(2),
        0x71 => Some(1),
        0x79 => Some(8),
        _ => None,
    }
}

/// What a global can be.
pub(super) trait Bytes {
    fn bytes(self) -> Vec<u8>;
}

macro_rules! bytes {
    ($($integer:ty),*) => {
        $(impl Bytes for $integer {
            fn bytes(self) -> Vec<u8> {
                self.to_ne_bytes().to_vec()
            }
        })*
    };
}

bytes!(u8, u32, u64);

/// A load of a global: of its address (two instructions' room), and right after it through that address.
struct Load {
    at: usize,
    /// The register that receives the value.
    target: u8,
    value: u64,
}

impl Load {
    /// The load whose address is loaded at `at`, if there is one that nothing jumps into: the address may be another one
    /// then.
    fn find(
        code: &[u8],
        at: usize,
        symbol: u64,
        values: &[u8],
        jump_targets: &BTreeSet<usize>,
    ) -> Option<Self> {
        let (address, second) = (code.get(at..at + INSTRUCTION)?, at + 2 * INSTRUCTION);
        if address[0] != LOAD_ADDRESS || jump_targets.contains(&second) {
            return None;
        }
        let base = address[1] & 0xf;
        let within = symbol as usize + i32::from_ne_bytes(address[4..8].try_into().ok()?) as usize;
        let [operation, registers, offset @ ..] = *code.get(second..second + 4)?.first_chunk::<4>()?;
        let width = width(operation)?;
        let within = within.checked_add_signed(i16::from_ne_bytes(offset).into())?;
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(values.get(within..within + width)?);
        let (target, value) = (registers & 0xf, u64::from_ne_bytes(wide));
        (registers >> 4 == base && Move::of(value).is_some()).then_some(Self { at, target, value })
    }

    /// Whether nobody needs the address afterwards: the value takes its register.
    fn is_all(&self, code: &[u8]) -> bool {
        code[self.at + 1] & 0xf == self.target
    }

    /// Moves the value where it was loaded.
    fn replace_second(&self, code: &mut [u8]) {
        let Some(Move(operation, value)) = Move::of(self.value) else { return };
        let at = self.at + 2 * INSTRUCTION;
        code[at..at + 4].copy_from_slice(&[operation, self.target, 0, 0]);
        code[at + 4..at + INSTRUCTION].copy_from_slice(&value.to_ne_bytes());
    }

    /// Loads the value instead of the address, and nothing after it.
    fn replace_both(&self, code: &mut [u8]) {
        let [low, high] = [self.value as u32, (self.value >> 32) as u32].map(u32::to_ne_bytes);
        let code = &mut code[self.at..self.at + 3 * INSTRUCTION];
        code.fill(0);
        code[..2].copy_from_slice(&[LOAD_ADDRESS, self.target]);
        code[4..8].copy_from_slice(&low);
        code[INSTRUCTION + 4..2 * INSTRUCTION].copy_from_slice(&high);
        code[2 * INSTRUCTION] = NOTHING;
    }
}

/// An instruction that moves a value, and the 32 bits in it; not every value fits.
struct Move(u8, u32);

impl Move {
    fn of(value: u64) -> Option<Self> {
        if let Ok(value) = u32::try_from(value) {
            return Some(Self(MOVE_32, value));
        }
        i32::try_from(value.cast_signed()).ok().map(|value| Self(MOVE_64, value.cast_unsigned()))
    }
}

/// Where the instructions lie that something jumps to.
fn jump_targets(code: &[u8]) -> BTreeSet<usize> {
    /// `BPF_JMP` and `BPF_JMP32`, by their class.
    const CLASSES: [u8; 2] = [0x05, 0x06];
    /// `BPF_JMP32 | BPF_JA`, which jumps by the other number.
    const FAR: u8 = 0x06;
    let (instructions, _) = code.as_chunks::<INSTRUCTION>();
    instructions
        .iter()
        .enumerate()
        .filter(|(_, instruction)| CLASSES.contains(&(instruction[0] & 0x07)))
        .filter_map(|(index, instruction)| {
            let [operation, _, near @ .., _, _, _, _] = *instruction;
            let far = i32::from_ne_bytes(instruction[4..].try_into().ok()?) as isize;
            let distance = if operation == FAR { far } else { i16::from_ne_bytes(near).into() };
            Some((index + 1).checked_add_signed(distance)? * INSTRUCTION)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::object::OBJECT, *};

    fn folded(constants: &[(&'static str, u64)]) -> Result<Vec<u8>, ConstantError> {
        let mut all = Constants::default();
        constants.iter().for_each(|(global, value)| all.set(global, *value));
        all.fold(OBJECT)
    }

    /// Loads through the register that the instruction before them has put a global's address in.
    fn loads_of_globals(object: &[u8], section: &str) -> usize {
        let file = object::File::parse(object).unwrap();
        let section = file.section_by_name(section).unwrap();
        let code = section.data().unwrap();
        let globals = file.section_by_name(GLOBALS).unwrap().index();
        section
            .relocations()
            .filter(|(at, relocation)| {
                let RelocationTarget::Symbol(symbol) = relocation.target() else { return false };
                let (at, load) = (*at as usize, *at as usize + 2 * INSTRUCTION);
                file.symbol_by_index(symbol).unwrap().section_index() == Some(globals)
                    && [0x61, 0x69, 0x71, 0x79].contains(&code[load])
                    && code[load + 1] >> 4 == code[at + 1] & 0xf
            })
            .count()
    }

    #[test]
    fn loads_of_globals_become_moves() {
        let before = loads_of_globals(OBJECT, "tp_btf/sys_exit");
        assert!(before > 20, "{before} loads: is this the kernel half?");
        let object = folded(&[("NR_CONNECT", 0x1234)]).unwrap();
        assert_eq!(object.len(), OBJECT.len());
        assert_eq!(loads_of_globals(&object, "tp_btf/sys_exit"), 0);
        let file = object::File::parse(&*object).unwrap();
        let code = file.section_by_name("tp_btf/sys_exit").unwrap().data().unwrap();
        let moved = |value: i32| {
            let value = value.to_ne_bytes();
            code.as_chunks::<INSTRUCTION>().0.iter().any(|instruction| {
                [LOAD_ADDRESS, MOVE_32, MOVE_64].contains(&instruction[0]) && instruction[4..] == value
            })
        };
        assert!(moved(0x1234));
        assert!(moved(-1), "what nobody has set keeps its value");
    }

    #[test]
    fn fields_are_loaded_by_their_offsets() {
        let loads = |object: &[u8], offset: i16| {
            let file = object::File::parse(object).unwrap();
            let code = file.section_by_name("tp_btf/sys_exit").unwrap().data().unwrap();
            let (instructions, _) = code.as_chunks::<INSTRUCTION>();
            let is_it =
                |code: &&[u8; INSTRUCTION]| width(code[0]).is_some() && code[2..4] == offset.to_ne_bytes();
            instructions.iter().filter(is_it).count()
        };
        let place = |global| (FIRST_PLACE + agent_ebpf::contract::offsets::place(global)) as i16;
        let of_ip = loads(OBJECT, place("REGS_IP"));
        assert!(of_ip > 0, "is this the kernel half?");
        // Offsets that nothing else has; no instruction has room for the last one.
        let object = folded(&[("REGS_IP", 0x3ff0), ("REGS_CX", 1 << 15)]).unwrap();
        assert_eq!(loads(&object, 0x3ff0), of_ip);
        assert_eq!(loads(&object, place("REGS_IP")), 0);
        assert!(loads(&object, -1) >= loads(OBJECT, place("REGS_CX")), "what isn't known can't be loaded");
    }

    #[test]
    fn a_load_that_something_jumps_to_stays() {
        // ja +2; r1 = 0 ll; r1 = *(u64 *)(r1 + 0): the jump skips the address.
        let mut code = Vec::new();
        for instruction in [[0x05, 0, 2, 0, 0, 0, 0, 0], [0x18, 1, 0, 0, 0, 0, 0, 0], [0; 8]] {
            code.extend(instruction);
        }
        code.extend([0x79, 0x11, 0, 0, 0, 0, 0, 0]);
        let values = 7u64.to_ne_bytes();
        let targets = jump_targets(&code);
        assert_eq!(targets, BTreeSet::from([24]));
        assert!(Load::find(&code, 8, 0, &values, &targets).is_none());
        let load = Load::find(&code, 8, 0, &values, &BTreeSet::new()).unwrap();
        assert!(load.is_all(&code));
        load.replace_second(&mut code);
        assert_eq!(code[24..], [MOVE_32, 1, 0, 0, 7, 0, 0, 0]);
        load.replace_both(&mut code);
        assert_eq!(
            code[8..],
            *[[0x18, 1, 0, 0, 7, 0, 0, 0], [0; 8], [NOTHING, 0, 0, 0, 0, 0, 0, 0]].concat()
        );
    }

    #[test]
    fn a_map_gets_the_size_that_it_needs() {
        let value_size = |object: &[u8]| {
            let file = object::File::parse(object).unwrap();
            let at = definition(&file, "CELLS").unwrap() + VALUE_SIZE;
            u32::from_ne_bytes(object[at..at + 4].try_into().unwrap())
        };
        assert_eq!(value_size(OBJECT), 64, "one cell");
        let mut constants = Constants::default();
        constants.set_value_size("CELLS", 64 * 128);
        assert_eq!(value_size(&constants.fold(OBJECT).unwrap()), 64 * 128);
        constants.set_value_size("NOTHING", 1);
        assert!(matches!(constants.fold(OBJECT), Err(ConstantError::NoMap("NOTHING"))));
    }

    #[test]
    fn values_are_for_globals_that_exist() {
        assert!(matches!(folded(&[("NR_NOTHING", 1)]), Err(ConstantError::NoGlobal("NR_NOTHING", 8))));
        assert!(matches!(folded(&[("TCP", 1)]), Err(ConstantError::NoGlobal("TCP", 8))), "it has one byte");
        assert!(matches!(Constants::default().fold(b"no object"), Err(ConstantError::Object(_))));
    }
}
