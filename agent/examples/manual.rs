//! Writes manual pages and completions into a directory: `cargo run --package podwitness --example manual -- DIRECTORY`.

use std::{
    env,
    fs::{self, File},
    io,
    path::Path,
};

use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

const PROGRAM: &str = "podwitness";
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> io::Result<()> {
    let Some(directory) = env::args_os().nth(1) else {
        return Err(io::Error::other("say into which directory"));
    };
    let directory = Path::new(&directory);
    let (manual, completions) = (directory.join("man/man1"), directory.join("completions"));
    for directory in [&manual, &completions] {
        fs::create_dir_all(directory)?;
    }
    let mut command = podwitness::cli::command(PROGRAM);
    for shell in SHELLS {
        generate_to(shell, &mut command, PROGRAM, &completions)?;
    }
    page(&command, &manual)?;
    for one in podwitness::cli::command(PROGRAM).get_subcommands() {
        page(&one.clone().name(format!("{PROGRAM}-{}", one.get_name())), &manual)?;
    }
    Ok(())
}

/// The page of a command. What all of them understand is in the program's own.
fn page(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let mut file = File::create(directory.join(format!("{name}.1")))?;
    Man::new(command.clone().bin_name(name.replace('-', " "))).manual("podwitness").render(&mut file)
}
