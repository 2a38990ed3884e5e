//! Runs one scenario; `cargo xtask cost` calls it under callgrind. Without arguments it lists the scenarios.

use std::process::ExitCode;

use scst_cost::scenario::{SCENARIOS, Scenario};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            for scenario in SCENARIOS {
                println!("{}", scenario.name);
            }
            ExitCode::SUCCESS
        }
        [name, commands] => match (Scenario::find(name), commands.parse()) {
            (Some(scenario), Ok(commands)) => {
                println!("{}", scenario.run(commands));
                ExitCode::SUCCESS
            }
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: scst-cost [SCENARIO COMMANDS]");
    ExitCode::FAILURE
}
