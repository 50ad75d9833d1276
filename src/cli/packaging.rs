//! What those who package and install the program ask of it: completions of shells, manual pages, how it was built.
//!
//! All of it is made of the command line as it is parsed, so it cannot tell of an option that there is not.

use std::{
    env::consts::{ARCH, OS},
    io::Write,
};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{CommandError, Exit, UsageError};
use crate::log::kafka;

#[derive(Debug, Args)]
pub(super) struct CompletionsArguments {
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArguments {
    /// One command; without it, the program as a whole.
    command: Option<String>,
}

pub(super) fn completions(
    arguments: &CompletionsArguments,
    mut command: Command,
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    let name = command.get_name().to_owned();
    // Into memory first: writing further, the crate panics where a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, name, &mut script);
    output.write_all(&script).map_err(CommandError::io("writing to standard output"))?;
    Ok(Exit::Done)
}

pub(super) fn man(
    arguments: &ManArguments,
    mut command: Command,
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    // Options that every command has, too.
    command.build();
    let page = match &arguments.command {
        None => command,
        Some(wanted) => {
            let found = command.get_subcommands().find(|known| known.get_name() == wanted.as_str());
            let found =
                found.ok_or_else(|| UsageError(format!("there is no command {wanted}; --help tells them all")))?;
            let name = format!("{}-{wanted}", command.get_name());
            found.clone().name(name)
        }
    };
    let mut text = Vec::new();
    Man::new(page).render(&mut text).map_err(CommandError::io("writing a manual page"))?;
    output.write_all(&text).map_err(CommandError::io("writing to standard output"))?;
    Ok(Exit::Done)
}

/// Version and build. The commit is that of `CONTACT_REPLICATOR_COMMIT` at compile time: a build needs no git.
pub(super) fn version() -> String {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let commit = option_env!("CONTACT_REPLICATOR_COMMIT").unwrap_or("not told");
    let library = kafka::library();
    format!(
        "{}\nbuild: {profile}, {ARCH}-{OS}, commit {commit}\nfeatures: {}\nlibrdkafka: {} ({})",
        env!("CARGO_PKG_VERSION"),
        features(),
        library.version,
        library.features,
    )
}

fn features() -> String {
    let known = [
        ("ssl", cfg!(feature = "ssl")),
        ("mechanism-switches", cfg!(feature = "mechanism-switches")),
        ("kafka-tests", cfg!(feature = "kafka-tests")),
    ];
    let on: Vec<&str> = known.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name).collect();
    if on.is_empty() { "none".to_owned() } else { on.join(", ") }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            completions(&CompletionsArguments { shell: *shell }, super::super::command(), &mut script).unwrap();
            let script = String::from_utf8(script).unwrap();
            for command in super::super::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell} does not complete {}", command.get_name());
            }
        }
    }

    #[test]
    fn the_program_and_each_command_have_a_manual_page() {
        let page = |command: Option<&str>| {
            let mut page = Vec::new();
            let arguments = ManArguments { command: command.map(str::to_owned) };
            man(&arguments, super::super::command(), &mut page).map(|_| String::from_utf8(page).unwrap())
        };
        let whole = page(None).unwrap();
        assert!(whole.contains(".TH contact-replicator 1"), "{whole}");
        for command in super::super::command().get_subcommands() {
            let name = command.get_name();
            assert!(whole.contains(&name.replace('-', "\\-")), "{name}");
            let own = page(Some(name)).unwrap();
            assert!(own.contains(&format!(".TH contact-replicator-{name} 1")), "{own}");
        }
        assert_eq!(page(Some("fly")).unwrap_err().exit(), Exit::Usage);
    }

    #[test]
    fn the_long_version_tells_the_build_and_the_kafka_library() {
        let version = version();
        assert!(version.starts_with(env!("CARGO_PKG_VERSION")), "{version}");
        let lines: Vec<&str> = version.lines().skip(1).collect();
        assert!(lines[0].starts_with("build: ") && lines[0].contains(ARCH), "{version}");
        let on = |feature: &str| lines[1].contains(feature);
        assert_eq!((on("ssl"), on("mechanism-switches")), (cfg!(feature = "ssl"), true), "{version}");
        // 2.12.0 (gzip,snappy,…): what the brokers' batches may be compressed with.
        assert!(lines[2].starts_with("librdkafka: 2.") && lines[2].contains("zstd"), "{version}");
        // `sasl_plain` alone is in every build.
        assert_eq!(lines[2].contains("ssl,"), cfg!(feature = "ssl"), "{version}");
    }
}
