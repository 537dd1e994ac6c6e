//! Loads the kernel half: offsets, sizes and switches in, programs attached, maps out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd as _,
    thread,
};

use agent_ebpf::contract::{
    control::{Control, half},
    io_uring::RequestBank,
    offsets::{COMPAT_MASK, FILE},
    slot::CACHE_CELLS,
    stats::{SENSORS_MAX, SensorId, SensorStats},
    syscalls::{Bank, CLASSES, Cell, ErrorBucket, Mode, NUMBERS},
    tcp::SOCKETS_PER_GONE,
};
use aya::{
    Ebpf, EbpfError, EbpfLoader, TestRun as _,
    maps::{Map, MapError},
    programs::{ProgramError, RawTracePoint, RawTracePointRunOptions},
};

use super::{
    Rings, Slots, Table,
    btf::{Btf, BtfError},
    constants::{ConstantError, Constants},
    host,
    offsets::Offsets,
    old,
    program::{self, Attached, Link, Tracepoints, Way},
    registers, shared,
    sizes::{Needs, Room, Sizes},
    slots::GENERATION,
    watch::{CallSettings, Watching},
};
use crate::{
    identity::Hierarchy,
    sensor::{Circumstances, Hook, SENSORS, Sensor, State, calls, io_uring},
};

/// What the programs and their maps are made for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the agent listens in its network namespace.
    pub own_listeners: [SocketAddr; 2],
    /// Whose cgroups count.
    pub hierarchy: Hierarchy,
    /// How large the maps may be.
    pub room: Room,
    /// Where system calls are taken from, if the kernel shows its types.
    pub tracepoints: Tracepoints,
    /// How system calls are measured.
    pub mode: Mode,
    /// The most that any container wants, if they may differ in that.
    pub mode_of_others: Option<Mode>,
    /// Events per second and at once that a container may send; a rate of 0 is no limit.
    pub event_rate: u64,
    pub event_burst: u64,
    /// System calls that the programs treat in a way of their own, by global.
    pub numbers: Vec<(&'static str, u64)>,
    /// Class of each system call number, below [`CLASSES`].
    pub classes: [u8; NUMBERS],
    /// Which of them become events.
    pub calls: CallSettings,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "this binary was built without its kernel half; build it with `cargo xtask build --release`, which \
         installs what that takes"
    )]
    NoObject,
    #[error("the kernel half that was built into this binary is broken")]
    Constant(#[from] ConstantError),
    #[error("the kernel refused the maps or the object")]
    Object(#[from] EbpfError),
    #[error("the kernel half has no usable map `{0}`")]
    Map(&'static str),
    #[error("the kernel half has no array for its global `{0}`; this is a bug")]
    NoArray(String),
    #[error("cannot put an array in the place of the global `{0}`")]
    Place(String, #[source] io::Error),
    #[error("cannot use a map")]
    MapAccess(#[from] MapError),
    #[error("cannot map a table into memory")]
    Mmap(#[source] io::Error),
    #[error("cannot make what wakes the reader")]
    Bell(#[source] io::Error),
    #[error("the kernel's types could not be read; this is a bug")]
    Loader,
    #[error("cannot learn the own process id from the kernel")]
    Whoami(#[from] ProgramError),
    #[error("cannot read how many CPUs there can be")]
    Cpus(#[source] io::Error),
}

/// A loaded kernel half, of which nothing runs yet.
pub struct Kernel {
    ebpf: Ebpf,
    tracepoints: Tracepoints,
    circumstances: Circumstances,
    control: Table<Control>,
    cells: Table<Cell>,
    watching: Watching,
    types: Types,
    /// Whether slow or failed calls are wanted at all.
    tells_calls: bool,
}

/// What is known of this kernel's types.
pub(super) struct Types {
    /// All of them, or why they can't be read.
    pub(super) btf: Result<Btf, BtfError>,
    pub(super) offsets: Offsets,
    /// Of all of them what aya needs.
    pub(super) places: Option<aya::Btf>,
    /// Whether a task's cgroup is that of the v1 memory controller, which is found by types.
    by_memory: bool,
}

impl Types {
    /// Why the sensor can't work, if that is for want of types.
    fn lacking(&self, sensor: SensorId) -> Option<String> {
        let error = self.btf.as_ref().err()?;
        (sensor != UNTYPED || self.by_memory).then(|| error.to_string())
    }
}

/// The sensor whose hooks have raw tracepoints.
const UNTYPED: SensorId = SensorId::Syscalls;

/// A kernel half that runs. Dropping it detaches everything.
pub struct Running {
    pub(super) ebpf: Ebpf,
    tracepoints: Tracepoints,
    circumstances: Circumstances,
    control: Table<Control>,
    cells: Table<Cell>,
    /// By the program that a hook names, also where the classic one is taken instead.
    pub(super) attached: BTreeMap<&'static str, Attached>,
    /// Of those that run now, in the same way.
    pub(super) links: BTreeMap<&'static str, Link>,
    pub(super) watching: Watching,
}

/// A kernel half, loaded but not attached, and its maps.
pub struct Loaded {
    pub kernel: Kernel,
    pub rings: Rings,
    pub slots: Slots,
    pub stats: Table<SensorStats>,
    pub banks: Table<Bank>,
    pub errors: Table<ErrorBucket>,
    pub requests: Table<RequestBank>,
    /// What this kernel calls the requests of io_uring.
    pub opcodes: io_uring::Opcodes,
    /// CPUs that can ever come up.
    pub cpus: u32,
}

pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/podwitness-ebpf"));

impl Kernel {
    /// Creates the maps and tells the programs what they need to know. Nothing runs yet.
    pub fn load(settings: &Settings, enabled: impl Fn(SensorId) -> bool) -> Result<Loaded, LoadError> {
        if OBJECT.is_empty() {
            return Err(LoadError::NoObject);
        }
        // It reads all of the kernel's types, whether we have a use for them or not: meanwhile, we do something else.
        let loader = thread::spawn(|| {
            let mut loader = EbpfLoader::new();
            // Fields are found by ourselves, see `Offsets`: nothing in the object is to be relocated.
            loader.btf(None).allow_unsupported_maps();
            loader
        });
        let btf = Btf::from_system();
        let types = btf.as_ref().ok();
        let places = types.map(program::places).transpose().map_err(EbpfError::from)?;
        let offsets = types.map_or_else(Offsets::of_registers, Offsets::of);
        let by_memory = matches!(settings.hierarchy, Hierarchy::Memory { .. });
        let enabled = |sensor| enabled(sensor) && (types.is_some() || sensor == UNTYPED);
        for (global, error) in &offsets.missing {
            tracing::debug!(global, %error, "a field is missing in this kernel");
        }
        let cpus = possible_cpus().map_err(LoadError::Cpus)?;
        let typed_tasks = types.is_some() && old::has_task_storage();
        let task_storage = typed_tasks && types.is_some_and(old::may_store_anywhere);
        // Without the sensor, its hook on exit serves others, and nobody times anything.
        let (mode, mode_of_others) = match enabled(SensorId::Syscalls) {
            true => (settings.mode, settings.mode_of_others),
            false => (Mode::Counts, None),
        };
        let circumstances = Circumstances {
            timed: mode.max(mode_of_others.unwrap_or(mode)) != Mode::Counts,
            regs_tell: types.is_some_and(|btf| btf.constant("BPF_FUNC_task_pt_regs").is_ok()),
            is_typed: types.is_some(),
            oom_lock_tells: offsets.has("MEMCG_OOM_LOCK"),
            has_submit_req: offsets.has("SUBMIT_REQ_RECORD"),
            submit_sqe_passes: offsets.has("SUBMIT_PASSES"),
        };
        let mut constants = Constants::default();
        for (global, offset) in &offsets.found {
            constants.set(global, *offset);
        }
        for (global, number) in &settings.numbers {
            constants.set(global, *number);
        }
        for (global, on) in [
            ("SYSCALLS", enabled(SensorId::Syscalls)),
            ("TCP", enabled(SensorId::Tcp)),
            ("PROCESS", enabled(SensorId::Process)),
            ("MODES_DIFFER", mode_of_others.is_some()),
            ("SWITCHES_SEEN", circumstances.timed),
            ("PREEMPTED", task_storage && host::preempts_tracepoints()),
            ("BY_MEMORY", by_memory),
            ("MEMCG_KNOWN", types.is_some_and(|btf| memory_cgroups_known(btf, &offsets))),
            ("MEMCG_TELLS", circumstances.oom_lock_tells),
            ("TYPED_TASKS", typed_tasks),
            ("TASKS_STORE", task_storage),
            ("REGS_TELL", circumstances.regs_tell),
            ("FILES_KNOWN", FILE.iter().all(|global| offsets.has(global))),
            ("FAILURES_WANTED", enabled(SensorId::Calls) && !settings.calls.failed.is_empty()),
            ("PATHS_WANTED", settings.calls.paths),
            (
                "ENTRY_TELLS",
                ["REGS_IP", "REGS_CX", "REGS_R11", "REGS_FLAGS"].iter().all(|global| offsets.has(global)),
            ),
            (
                "EXIT_TELLS_LAST",
                types
                    .and_then(|btf| btf.tracepoint("sched_process_exit").ok())
                    .is_some_and(|arguments| arguments.len() > 1),
            ),
        ] {
            constants.set(global, u8::from(on));
        }
        let compat_mask = if offsets.has("TASK_ABI") { COMPAT_MASK } else { 0 };
        constants.set("COMPAT_MASK", compat_mask);
        if types.is_none() {
            let (mask, mode) = registers::MODE;
            constants.set("COMPAT_MODE_MASK", mask);
            constants.set("COMPAT_MODE", mode);
        }
        constants.set("MODE", mode as u64);
        constants.set("TICK_NS", host::tick_ns());
        constants.set("CPUS", cpus);
        let needs = Needs { room: settings.room, cpus, enabled, task_storage };
        let sizes = Sizes::within(&needs, OBJECT)?;
        constants.set("CELLS_MASK", u64::from(sizes.of_map("CELLS") - 1));
        if sizes.in_one_element("BANKS").is_some() {
            constants.set("LAST_BANK", u64::from(sizes.of_map("BANKS") - 1));
        }
        let slow_least = if enabled(SensorId::Calls) { settings.calls.slow_least() } else { u64::MAX };
        constants.set("SLOW_LEAST", slow_least);
        let hierarchy = match settings.hierarchy {
            Hierarchy::V2 => 0,
            Hierarchy::Memory { id } => id,
        };
        constants.set("HIERARCHY", hierarchy);
        constants.set("SLOTS", sizes.slots);
        constants.set("SOCKETS_KEPT", u64::from(settings.room.sockets / SOCKETS_PER_GONE));
        constants.set("EVENTS_MARK", u64::from(settings.room.ring_bytes) / 2);
        constants.set("RARE_MARK", u64::from(settings.room.rare_ring_bytes) / 2);

        let mut loader: EbpfLoader<'_> = loader.join().map_err(|_| LoadError::Loader)?;
        for (map, elements) in sizes.elements() {
            match sizes.in_one_element(map) {
                Some(bytes) => {
                    loader.map_max_entries(map, 1);
                    constants.set_value_size(map, bytes);
                }
                None => drop(loader.map_max_entries(map, elements)),
            }
        }
        let mut object = constants.fold(OBJECT)?;
        if !task_storage {
            old::replace_task_storage(&mut object).ok_or(LoadError::Map("TASKS"))?;
        }
        let mut ebpf = loader.load(&object)?;
        shared::put_in_place(&ebpf)?;

        let rings = Rings::of(&mut ebpf)?;
        let mut slots = Slots {
            owners: table(&mut ebpf, "SLOT_OWNERS", sizes.of_map("SLOT_OWNERS"))?,
            cache: table(&mut ebpf, "SLOT_CACHE", CACHE_CELLS)?,
            by_cgroup: take(&mut ebpf, "CGROUP_SLOTS")?.try_into()?,
            free: take(&mut ebpf, "FREE_SLOTS")?.try_into()?,
            buckets: table(&mut ebpf, "BUCKETS", sizes.of_map("BUCKETS"))?,
            modes: table(&mut ebpf, "SLOT_MODES", sizes.of_map("SLOT_MODES"))?,
            control: table(&mut ebpf, "CONTROL", 1)?,
            mode,
        };
        slots.offer_all()?;
        debug_assert!(settings.classes.iter().all(|class| usize::from(*class) < CLASSES));
        let classes: Table<[u8; NUMBERS]> = table(&mut ebpf, "CLASS_OF", 1)?;
        for (word, classes_of_word) in settings.classes.as_chunks().0.iter().enumerate() {
            classes.store(0, word, u64::from_ne_bytes(*classes_of_word));
        }
        settings.calls.fill(&mut ebpf)?;
        let control: Table<Control> = table(&mut ebpf, "CONTROL", 1)?;
        control.store(0, std::mem::offset_of!(Control, calls_rate) / 8, settings.calls.rate);
        control.store(0, std::mem::offset_of!(Control, calls_burst) / 8, settings.calls.burst);
        control.store(0, std::mem::offset_of!(Control, rate) / 8, settings.event_rate);
        control.store(0, std::mem::offset_of!(Control, burst) / 8, settings.event_burst);
        let own_listeners = std::mem::offset_of!(Control, own_listeners) / 8;
        let listeners =
            settings.own_listeners.map(|address| [u64::from(address.port()), half_of(address.ip())]);
        for (index, word) in listeners.concat().into_iter().enumerate() {
            control.store(0, own_listeners + index, word);
        }
        control.store(0, std::mem::offset_of!(Control, own_netns) / 8, host::network_namespace());
        Ok(Loaded {
            rings,
            slots,
            stats: table(&mut ebpf, "STATS", cpus * SENSORS_MAX)?,
            banks: table(&mut ebpf, "BANKS", sizes.of_map("BANKS"))?,
            errors: table(&mut ebpf, "ERRORS", sizes.of_map("ERRORS"))?,
            requests: table(&mut ebpf, "REQUESTS", sizes.of_map("REQUESTS"))?,
            opcodes: io_uring::Opcodes::new(types.into_iter().flat_map(|btf| btf.constants_of("IORING_OP_"))),
            cpus,
            kernel: Self {
                cells: table(&mut ebpf, "CELLS", cpus)?,
                watching: Watching::take(&mut ebpf)?,
                ebpf,
                tracepoints: settings.tracepoints,
                circumstances,
                control,
                types: Types { btf, offsets, places, by_memory },
                tells_calls: settings.calls.are_told(),
            }
            .knowing_itself()?,
        })
    }

    /// Attaches the programs of every sensor that is wanted, in the order of its hooks, and says how each does.
    /// The kernel's types, tens of megabytes, are needed no more afterwards.
    pub fn attach(self, wanted: impl Fn(SensorId) -> bool) -> (Running, Vec<(SensorId, State)>) {
        let Self { mut ebpf, tracepoints, circumstances, control, cells, watching, types, tells_calls } =
            self;
        let is_tried = |sensor: &&Sensor| wanted(sensor.id) && types.lacking(sensor.id).is_none();
        let hooks = SENSORS.iter().filter(is_tried).flat_map(|sensor| sensor.hooks);
        let needed = hooks.filter(|hook| (hook.is_needed)(circumstances));
        let mut loaded = program::load_all(&mut ebpf, needed, tracepoints, &types);
        let (attached, links) = (BTreeMap::new(), BTreeMap::new());
        let mut running =
            Running { ebpf, tracepoints, circumstances, control, cells, attached, links, watching };
        let mut states: Vec<(SensorId, State)> = Vec::new();
        for sensor in SENSORS {
            let mut state = match types.lacking(sensor.id) {
                _ if !wanted(sensor.id) => State::Disabled,
                Some(reason) => State::Unsupported { reason },
                None => running.attach(sensor, &types, &mut loaded),
            };
            if sensor.id == SensorId::Calls && tells_calls {
                // Further up in the table.
                let syscalls = states.iter().find(|(id, _)| *id == SensorId::Syscalls);
                if let Some(what) = syscalls.and_then(|(_, state)| calls::lacking(state)) {
                    state = state.lacking(what);
                }
            }
            states.push((sensor.id, state));
        }
        // Of sensors that could not be started.
        for attached in loaded.into_values().flatten() {
            program::unload(&mut running.ebpf, &attached);
        }
        running.remember_slots();
        drop(types);
        host::give_memory_back();
        (running, states)
    }

    /// Runs the program that notes who we are.
    fn knowing_itself(mut self) -> Result<Self, LoadError> {
        let whoami: &mut RawTracePoint =
            self.ebpf.program_mut("whoami").ok_or(LoadError::Map("whoami"))?.try_into()?;
        whoami.load()?;
        whoami.test_run(RawTracePointRunOptions { args: [0; 12], cpu: None })?;
        whoami.unload()?;
        Ok(self)
    }
}

impl Running {
    /// All programs that were loaded for a hook.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// Detaches everything for good; the maps live on, to be read a last time.
    pub fn detach(&mut self) {
        self.links.clear();
        for attached in std::mem::take(&mut self.attached).values() {
            program::unload(&mut self.ebpf, attached);
        }
    }

    /// Takes every program from its hook that no wanted sensor needs, and hangs those back that are needed again: a
    /// hook that nobody wants costs nothing. All stay loaded. What a sensor lacked at start it still lacks. A task that
    /// is inside of a system call meanwhile may have one call booked with the number and time of that one.
    ///
    /// # Errors
    ///
    /// The hook that could not be attached again, and why; the others are.
    pub fn run_only(&mut self, wanted: impl Fn(SensorId) -> bool) -> Result<(), String> {
        let hooks = || SENSORS.iter().flat_map(|sensor| sensor.hooks.iter().map(|hook| (sensor.id, hook)));
        let is_needed = |(id, hook): &(SensorId, &Hook)| wanted(*id) && !hook.on_demand;
        let needed: BTreeSet<_> = hooks().filter(is_needed).map(|(_, hook)| hook.program).collect();
        // The order of the hooks, and backwards: an entry that is noted finds the others in place.
        let mut order: Vec<_> = hooks().map(|(_, hook)| hook.program).collect();
        for program in order.iter().rev().filter(|program| !needed.contains(*program)) {
            if let (Some(attached), Some(link)) = (self.attached.get(program), self.links.remove(program)) {
                program::detach(&mut self.ebpf, attached, link);
            }
        }
        self.control.store(0, GENERATION, 0);
        order.retain(|program| needed.contains(program));
        let mut refused = Vec::new();
        for program in order {
            if let (Some(attached), false) = (self.attached.get(program), self.links.contains_key(program)) {
                match program::attach(&mut self.ebpf, attached) {
                    Ok(link) => drop(self.links.insert(program, link)),
                    Err(reason) => refused.push(format!("{}: {reason}", attached.name())),
                }
            }
        }
        self.remember_slots();
        if refused.is_empty() { Ok(()) } else { Err(refused.join("; ")) }
    }

    /// Lets the programs remember the slot of the running task, if they are told of whatever may give it another one:
    /// tasks that move, and either the switch of tasks or the end of the one whose address may be used again.
    fn remember_slots(&self) {
        // What was noted before a pause belongs to nobody any more.
        for cell in 0..self.cells.entries() {
            self.cells.clear(cell);
        }
        let runs = |program| self.links.contains_key(program);
        let is_told = runs("cgroup_attach_task") && (runs("sched_switch") || runs("sched_process_exit"));
        self.control.store(0, GENERATION, is_told.into());
    }

    fn attach(&mut self, sensor: &Sensor, types: &Types, loaded: &mut program::Loaded) -> State {
        let before: Vec<&str> = self.attached.keys().copied().collect();
        let mut hooks = Vec::new();
        let mut lacking = Vec::new();
        for hook in sensor.hooks {
            if !(hook.is_needed)(self.circumstances) {
                continue;
            }
            match self.attach_hook(hook, types, loaded) {
                Ok((name, warning)) => {
                    if !hook.is_second() {
                        hooks.push(name);
                    }
                    lacking.extend(warning);
                }
                Err(reason) if hook.required => {
                    // What was attached for this sensor alone would cost for nothing.
                    for (name, attached) in self.attached.extract_if(.., |name, _| !before.contains(name)) {
                        self.links.remove(name);
                        program::unload(&mut self.ebpf, &attached);
                    }
                    return State::Unsupported { reason: format!("{}: {reason}", hook.name) };
                }
                Err(_) if hook.lacking.is_empty() => {}
                Err(reason) => lacking.push(format!("{}: {reason}", hook.lacking)),
            }
        }
        if lacking.is_empty() {
            State::Active { hooks }
        } else {
            State::Degraded { hooks, reason: lacking.join("; ") }
        }
    }

    /// Attaches a program, unless another sensor did: its hook's name, and what is worse about it than it should be.
    fn attach_hook(
        &mut self,
        hook: &'static Hook,
        types: &Types,
        loaded: &mut program::Loaded,
    ) -> Result<(&'static str, Option<String>), String> {
        if let Some(attached) = self.attached.get(hook.program) {
            return Ok((attached.name(), None));
        }
        let mut warning = None;
        let mut way = Way::of(hook, self.tracepoints, types);
        if let Way::Classic(classic) = way {
            let loaded = loaded
                .remove(classic.program)
                .unwrap_or_else(|| program::load_one(&mut self.ebpf, (hook, way), types));
            match loaded.and_then(|attached| self.hang(hook, attached)) {
                Ok(()) => return Ok((classic.name, None)),
                Err(reason) => {
                    // What the kernel refused says what it wants; else the event wasn't found.
                    let question = match reason.contains("perf_event_open") {
                        true => "",
                        false => "; is tracefs mounted at /sys/kernel/tracing?",
                    };
                    warning = Some(format!(
                        "calls may be missed where tasks preempt each other: {} can't be used ({reason}){question}",
                        classic.name
                    ));
                    way = Way::Typed;
                }
            }
        }
        if let (Way::Raw(raw), true) = (way, hook.classic.is_some() && host::preempts_tracepoints()) {
            warning = Some(format!(
                "calls may be missed where tasks preempt each other: {} is preempted",
                raw.name
            ));
        }
        let loaded = loaded
            .remove(way.program(hook))
            .unwrap_or_else(|| program::load_one(&mut self.ebpf, (hook, way), types))?;
        self.hang(hook, loaded)?;
        Ok((way.name(hook), warning))
    }

    fn hang(&mut self, hook: &Hook, attached: Attached) -> Result<(), String> {
        if !hook.on_demand {
            let link = program::attach(&mut self.ebpf, &attached)?;
            self.links.insert(hook.program, link);
        }
        self.attached.insert(hook.program, attached);
        Ok(())
    }
}

/// An address as the programs compare it; 0 if it means all.
fn half_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V6(address) if address.is_unspecified() => 0,
        IpAddr::V4(address) => half(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => u64::from_ne_bytes(*address.octets().last_chunk().unwrap_or(&[0; 8])),
    }
}

/// Whether a task's memory cgroup can be found, and begins with its `css`, as the programs take it.
fn memory_cgroups_known(btf: &Btf, offsets: &Offsets) -> bool {
    offsets.has("CSS_SET_MEMORY") && btf.field("mem_cgroup.css").is_ok_and(|css| css.offset == 0)
}

/// One more than the highest CPU that can come up (`/sys/devices/system/cpu/possible`, such as `0-3,8`).
pub fn possible_cpus() -> io::Result<u32> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    text.trim()
        .rsplit([',', '-'])
        .next()
        .and_then(|last| last.parse::<u32>().ok())
        .map(|last| last + 1)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("unexpected text {text:?}")))
}

pub(super) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    ebpf.take_map(name).ok_or(LoadError::Map(name))
}

pub(super) fn table<T>(ebpf: &mut Ebpf, name: &'static str, entries: u32) -> Result<Table<T>, LoadError> {
    let Map::Array(data) = ebpf.map(name).ok_or(LoadError::Map(name))? else {
        return Err(LoadError::Map(name));
    };
    Table::map(data.fd().as_fd(), entries).map_err(LoadError::Mmap)
}
