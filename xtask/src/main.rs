//! The chores of podwitness: `cargo xtask` lists them.

mod architecture;
mod bench;
mod build;
mod chromium;
mod debian;
mod dist;
mod fuzz;
mod image;
#[allow(dead_code, reason = "shared with agent/build.rs, which uses the rest")]
mod kernel_half;
mod lint;
mod machine;
mod process;
mod setup;
#[allow(dead_code, reason = "shared with bench, which uses the rest")]
mod smallest_program;
mod steps;
mod test;
mod tidy;
mod vm;

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};

use architecture::Architecture;
use build::Profile;
use setup::Purpose;

const USAGE: &str = "\
The chores of podwitness.

Usage: cargo xtask COMMAND

  setup                            install what the build needs and this machine lacks
  build [--release]                the agent with its kernel half: target/{debug,release}/podwitness
  image [--arch ARCH] [--of AGENT] the agent, static, as an OCI archive with a list of what is in it (SBOM);
                                   for this machine's architecture, or for amd64 or arm64
  dist [--arch ARCH] [--of AGENT]  what a release consists of, with checksums: target/dist
  run [--debug] [-- ARGUMENTS]     build it and run it here, in the foreground
  test [--unprivileged] [FILTER…]  unit tests, then the tests on the live kernel
  vm [KERNEL…] [--filter TEST…]    the tests on the live kernel in emulated machines: 5.10, 6.1, 6.12, newest;
                                   and the same for another architecture: 6.12-arm64
  bench [NAME…] [--rounds N] [--no-peers] [--peers] [--write] [--debug] [-- ARGUMENTS]
                                   what the agent costs, beside its floors and its peers: bench/README.md
  guards                           record anew what the programs may cost: tests/guards.txt
  fuzz [TARGET…] [--seconds N]     the parsers under libFuzzer, 60 s each
  lint                             rustfmt, clippy on both halves, cargo deny, tidy
  tidy                             the house rules

Each command installs what it needs first. Variables:

  PODWITNESS_CACHE                 the directory for what is kept outside of the clone (~/.cache/podwitness)
  PODWITNESS_KERNEL_TOOLCHAIN      the toolchain of rustup that compiles the kernel half
  PODWITNESS_DEBIAN_MIRROR         a mirror of Debian, where the machine's package sources name none
";

fn main() -> ExitCode {
    match Call::parse(env::args_os().skip(1)).and_then(Call::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq)]
enum Call {
    Help,
    Setup,
    Build(Profile),
    Image(Architecture, Option<String>),
    Dist(Architecture, Option<String>),
    Run(Profile, Vec<OsString>),
    Test { unprivileged: bool, filter: Vec<String> },
    Vm { kernels: Vec<String>, filter: Vec<String> },
    Bench(bench::Wish),
    BenchHelp,
    Guards,
    Fuzz { targets: Vec<String>, seconds: u32 },
    Lint,
    Tidy,
}

impl Call {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut arguments: Vec<_> = arguments.collect();
        let beyond = arguments.iter().position(|argument| argument == "--");
        let passed_on = beyond.map(|at| arguments.split_off(at).split_off(1)).unwrap_or_default();
        let mut words = Words::new(arguments)?;

        let command = words.next().unwrap_or_else(|| "help".into());
        let call = match command.as_str() {
            "help" | "--help" | "-h" => Self::Help,
            "setup" => Self::Setup,
            "build" => Self::Build(if words.flag("--release") { Profile::Release } else { Profile::Debug }),
            "image" => Self::Image(words.architecture()?, words.value("--of")?),
            "dist" => Self::Dist(words.architecture()?, words.value("--of")?),
            "run" => {
                let profile = if words.flag("--debug") { Profile::Debug } else { Profile::Release };
                words.flag("--release");
                return words.end(Self::Run(profile, passed_on));
            }
            "test" => Self::Test { unprivileged: words.flag("--unprivileged"), filter: words.filters()? },
            "vm" => {
                let filter = words.after("--filter");
                Self::Vm { kernels: words.filters()?, filter }
            }
            "bench" if words.flag("--help") => Self::BenchHelp,
            "bench" => {
                let profile = if words.flag("--debug") { Profile::Debug } else { Profile::Release };
                let (install_peers, write) = (words.flag("--peers"), words.flag("--write"));
                let words = std::mem::take(&mut words.0);
                let wish = bench::Wish { profile, install_peers, write, words, flags: passed_on };
                return Ok(Self::Bench(wish));
            }
            "guards" => Self::Guards,
            "fuzz" => {
                let seconds = words.value("--seconds")?.map_or(Ok(fuzz::SECONDS), |text| text.parse());
                let seconds = seconds.context("--seconds takes a whole number")?;
                Self::Fuzz { targets: words.filters()?, seconds }
            }
            "lint" => Self::Lint,
            "tidy" => Self::Tidy,
            other => bail!("there is no command `{other}`\n\n{USAGE}"),
        };
        if !passed_on.is_empty() {
            bail!("only `cargo xtask run` and `cargo xtask bench` pass arguments on");
        }
        words.end(call)
    }

    fn run(self) -> Result<()> {
        match self {
            Self::Help => print!("{USAGE}"),
            Self::Setup => drop(setup::run(Purpose::Build)?),
            Self::Build(profile) => build::build(profile)?,
            Self::Dist(architecture, agent) => dist::run(architecture, agent)?,
            Self::Image(architecture, agent) => image::run(architecture, agent)?,
            Self::Run(profile, arguments) => match build::run(profile, &arguments)? {},
            Self::Test { unprivileged, filter } => test::run(unprivileged, &filter)?,
            Self::Vm { kernels, filter } => vm::run(&kernels, &filter)?,
            Self::Bench(wish) => bench::run(&wish)?,
            Self::BenchHelp => print!("{}", bench::USAGE),
            Self::Guards => bench::record_guards()?,
            Self::Fuzz { targets, seconds } => fuzz::run(&targets, seconds)?,
            Self::Lint => lint::run()?,
            Self::Tidy => tidy::run()?,
        }
        Ok(())
    }
}

/// What was typed after `cargo xtask`, up to a lone `--`.
struct Words(Vec<String>);

impl Words {
    fn new(arguments: Vec<OsString>) -> Result<Self> {
        let word = |argument: OsString| argument.into_string().ok().context("arguments must be text");
        Ok(Self(arguments.into_iter().map(word).collect::<Result<_>>()?))
    }

    fn next(&mut self) -> Option<String> {
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }

    fn flag(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| word != name);
        self.0.len() < before
    }

    /// The word after `flag`, if that is there.
    fn value(&mut self, flag: &str) -> Result<Option<String>> {
        let Some(at) = self.0.iter().position(|word| word == flag) else { return Ok(None) };
        self.0.remove(at);
        if at == self.0.len() {
            bail!("{flag} takes a value");
        }
        Ok(Some(self.0.remove(at)))
    }

    /// The one to build for.
    fn architecture(&mut self) -> Result<Architecture> {
        self.value("--arch")?.map_or_else(Architecture::host, |word| Architecture::parse(&word))
    }

    /// All that follows `flag`.
    fn after(&mut self, flag: &str) -> Vec<String> {
        let at = self.0.iter().position(|word| word == flag);
        at.map(|at| self.0.split_off(at).split_off(1)).unwrap_or_default()
    }

    fn filters(&mut self) -> Result<Vec<String>> {
        match self.0.iter().find(|word| word.starts_with('-')) {
            Some(flag) => bail!("`{flag}` is not known here\n\n{USAGE}"),
            None => Ok(std::mem::take(&mut self.0)),
        }
    }

    fn end(self, call: Call) -> Result<Call> {
        match self.0.first() {
            Some(word) => bail!("`{word}` is not known here\n\n{USAGE}"),
            None => Ok(call),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Architecture, Call, Profile, bench};

    fn parse(line: &str) -> anyhow::Result<Call> {
        Call::parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn each_command_has_its_defaults() {
        assert_eq!(parse("").unwrap(), Call::Help);
        assert_eq!(parse("build").unwrap(), Call::Build(Profile::Debug));
        assert_eq!(parse("build --release").unwrap(), Call::Build(Profile::Release));
        let host = Architecture::host().unwrap();
        assert_eq!(parse("image").unwrap(), Call::Image(host, None));
        assert_eq!(parse("dist --of agent").unwrap(), Call::Dist(host, Some("agent".into())));
        assert_eq!(parse("image --arch arm64").unwrap(), Call::Image(Architecture::Aarch64, None));
        assert_eq!(parse("run").unwrap(), Call::Run(Profile::Release, vec![]));
        assert_eq!(parse("test").unwrap(), Call::Test { unprivileged: false, filter: vec![] });
    }

    #[test]
    fn what_follows_two_dashes_is_the_agents() {
        let call = parse("run --debug -- --config a.yaml --debug").unwrap();
        let arguments = ["--config", "a.yaml", "--debug"].map(Into::into).to_vec();
        assert_eq!(call, Call::Run(Profile::Debug, arguments));
    }

    #[test]
    fn filters_are_words() {
        let call = parse("test tcp --unprivileged oom").unwrap();
        assert_eq!(call, Call::Test { unprivileged: true, filter: vec!["tcp".into(), "oom".into()] });
    }

    #[test]
    fn kernels_come_before_the_filter() {
        let call = parse("vm 5.10 6.1 --filter oom tcp").unwrap();
        let words = |words: &str| words.split(' ').map(String::from).collect();
        assert_eq!(call, Call::Vm { kernels: words("5.10 6.1"), filter: words("oom tcp") });
        assert_eq!(parse("vm").unwrap(), Call::Vm { kernels: vec![], filter: vec![] });
    }

    #[test]
    fn what_is_not_known_here_is_the_benchs() {
        let call = parse("bench tcp --write --rounds 9 -- --sensors-oom false").unwrap();
        let words = |words: &str| words.split(' ').map(String::from).collect::<Vec<_>>();
        let expected = bench::Wish {
            profile: Profile::Release,
            install_peers: false,
            write: true,
            words: words("tcp --rounds 9"),
            flags: words("--sensors-oom false").into_iter().map(Into::into).collect(),
        };
        assert_eq!(call, Call::Bench(expected));
        assert_eq!(parse("bench --help").unwrap(), Call::BenchHelp);
    }

    #[test]
    fn fuzzing_has_its_time() {
        let call = parse("fuzz btf --seconds 5 cri").unwrap();
        assert_eq!(call, Call::Fuzz { targets: vec!["btf".into(), "cri".into()], seconds: 5 });
        assert_eq!(parse("fuzz").unwrap(), Call::Fuzz { targets: vec![], seconds: 60 });
        assert!(parse("fuzz --seconds").is_err());
        assert!(parse("fuzz --seconds soon").is_err());
    }

    #[test]
    fn nothing_unknown_is_ignored() {
        for line in [
            "bild",
            "build --relese",
            "run now",
            "test --privileged",
            "vm --filtre x",
            "lint -- x",
            "tidy up",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
