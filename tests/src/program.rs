//! What the kernel has made of a program: figures that are the same every time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::AsRawFd as _,
};

use crate::bpf::{Object, held_by};

/// The cost of a program, without a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of machine code.
    pub jited_bytes: u64,
    /// Instructions that the verifier walked through; 0 before Linux 5.16, which doesn't tell.
    pub verified_instructions: u64,
    /// Calls of helpers that are left in the code, after the kernel has put in line what it could.
    pub helper_calls: u64,
}

/// `struct bpf_prog_info` of include/uapi/linux/bpf.h; kernels fill in as much of it as they know.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_bytes: u32,
    translated_bytes: u32,
    jited: u64,
    translated: u64,
    load_time: u64,
    created_by: u32,
    map_count: u32,
    maps: u64,
    name: [u8; 16],
    /// From the interface to the times of run, none of which is asked for.
    between: [u64; 16],
    recursion_misses: u64,
    verified_instructions: u32,
    attach_object: u32,
    attach_type: u32,
    padding: u32,
}

const _: () = assert!(std::mem::offset_of!(Info, verified_instructions) == 216);

#[repr(C)]
struct Query {
    fd: u32,
    length: u32,
    info: u64,
}

/// Command of bpf(2).
const BPF_OBJ_GET_INFO_BY_FD: i32 = 15;
/// `BPF_JMP | BPF_CALL`
const CALL: u8 = 0x85;
const INSTRUCTION: usize = 8;

/// The programs of a process by name. The kernel cuts names off; the second of a name, by its size, has ` 2` after it.
pub fn shapes(pid: u32) -> BTreeMap<String, Shape> {
    let programs = held_by(pid).into_iter().filter(|object| matches!(object, Object::Program(_)));
    let mut all: Vec<_> =
        programs.map(|program| shape(program).expect("what the kernel says of a program")).collect();
    // Not in the order in which they were loaded, which is another one each time.
    all.sort_by_key(|(_, shape)| (shape.jited_bytes, shape.verified_instructions));
    let mut shapes = BTreeMap::new();
    for (name, shape) in all {
        let number = (1..).find(|number| !shapes.contains_key(&numbered(&name, *number)));
        shapes.insert(numbered(&name, number.expect("a number")), shape);
    }
    shapes
}

fn numbered(name: &str, number: u32) -> String {
    if number == 1 { name.to_owned() } else { format!("{name} {number}") }
}

/// What the programs of a process call, by the kernel's names.
pub fn helpers(pid: u32) -> BTreeSet<String> {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("the kernel's symbols");
    let symbols: Vec<(u64, &str)> = symbols
        .lines()
        .filter_map(|line| {
            let (address, rest) = line.split_once(' ')?;
            Some((u64::from_str_radix(address, 16).ok()?, rest.split_whitespace().nth(1)?))
        })
        .collect();
    // Helpers are told by how far they are from this one, which does nothing.
    let base = symbols.iter().find(|(_, name)| *name == "__bpf_call_base").expect("its symbol").0;
    let mut helpers = BTreeSet::new();
    for program in held_by(pid).into_iter().filter(|object| matches!(object, Object::Program(_))) {
        let (_, code) = information(program).expect("what the kernel says of a program");
        for instruction in code.chunks_exact(INSTRUCTION).filter(is_helper) {
            let far = i32::from_ne_bytes(*instruction.last_chunk().expect("eight bytes"));
            let address = base.wrapping_add_signed(far.into());
            let named = symbols.iter().filter(|(at, _)| *at == address);
            helpers.extend(named.map(|(_, name)| (*name).to_owned()));
        }
    }
    assert!(!helpers.is_empty(), "programs that call nothing, or symbols without addresses");
    helpers
}

/// Else it calls a function of its own, or of the kernel's.
fn is_helper(instruction: &&[u8]) -> bool {
    instruction[0] == CALL && instruction[1] >> 4 == 0
}

/// With its code, after the kernel has put in line what it could.
fn information(program: Object) -> io::Result<(Info, Vec<u8>)> {
    let fd = program.open().ok_or(io::ErrorKind::NotFound)?;
    let mut info = Info::default();
    query(fd.as_raw_fd(), &mut info)?;
    let mut code = vec![0_u8; info.translated_bytes as usize];
    let mut again = Info {
        translated_bytes: info.translated_bytes,
        translated: code.as_mut_ptr() as u64,
        ..Info::default()
    };
    query(fd.as_raw_fd(), &mut again)?;
    Ok((info, code))
}

fn shape(program: Object) -> io::Result<(String, Shape)> {
    let (info, code) = information(program)?;
    let shape = Shape {
        jited_bytes: info.jited_bytes.into(),
        verified_instructions: info.verified_instructions.into(),
        helper_calls: code.chunks_exact(INSTRUCTION).filter(is_helper).count() as u64,
    };
    let length = info.name.iter().position(|byte| *byte == 0).unwrap_or(info.name.len());
    Ok((String::from_utf8_lossy(&info.name[..length]).into_owned(), shape))
}

fn query(fd: i32, info: &mut Info) -> io::Result<()> {
    let query = Query {
        fd: fd.cast_unsigned(),
        length: size_of::<Info>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: the kernel reads the query, whose size is passed, and writes to the information and to the code that it
    // points to no more than the lengths in them say; all of it lives through the call.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const query, size_of::<Query>()) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
