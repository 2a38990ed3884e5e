//! The shapes of load.

use clap::ValueEnum;

use crate::load::{Operation, Order};

const K: u32 = 1024;

/// Which cases to measure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Matrix {
    /// 4 KiB at depth 1 and 32, 128 KiB at depth 8, READ and WRITE.
    Quick,
    /// And what the verdict needs: connections, digests.
    Bars,
    /// And more depths and sizes.
    Full,
}

/// One shape of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) operation: Operation,
    pub(super) size: u32,
    pub(super) depth: usize,
    pub(super) connections: u16,
    pub(super) digests: bool,
}

impl Case {
    pub(super) const fn new(operation: Operation, size: u32, depth: usize, connections: u16, digests: bool) -> Self {
        Self { operation, size, depth, connections, digests }
    }

    pub(super) fn order(&self) -> Order {
        if self.size >= 64 * K { Order::Sequential } else { Order::Random }
    }

    /// "4 KiB READ QD 32 x4 digests".
    pub(super) fn name(&self) -> String {
        let unit = match self.size {
            size if size >= K * K => format!("{} MiB", size / K / K),
            size if size >= K => format!("{} KiB", size / K),
            size => format!("{size} B"),
        };
        let operation = if self.operation == Operation::Read { "READ" } else { "WRITE" };
        let mut name = format!("{unit} {operation} QD {}", self.depth);
        if self.connections > 1 {
            name.push_str(&format!(" x{}", self.connections));
        }
        if self.digests {
            name.push_str(" digests");
        }
        name
    }

    /// Arguments of `load`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value().map_or_else(String::new, |value| value.get_name().to_owned())
        };
        let mut arguments = vec![
            "--op".to_owned(),
            name(&|| self.operation.to_possible_value()),
            "--order".to_owned(),
            name(&|| self.order().to_possible_value()),
        ];
        let numbers = [("--size", u64::from(self.size)), ("--depth", self.depth as u64)];
        for (option, number) in numbers.into_iter().chain([("--connections", u64::from(self.connections))]) {
            arguments.extend([option.to_owned(), number.to_string()]);
        }
        if self.digests {
            arguments.extend(["--header-digest".to_owned(), "--data-digest".to_owned()]);
        }
        arguments
    }
}

/// The cases of a matrix.
pub(super) fn cases(matrix: Matrix) -> Vec<Case> {
    let quick: &[_] = &[(4 * K, 1, 1, false), (4 * K, 32, 1, false), (128 * K, 8, 1, false)];
    let bars: &[_] = &[(4 * K, 32, 4, false), (4 * K, 8, 64, false), (4 * K, 32, 1, true), (128 * K, 8, 1, true)];
    let more: &[_] = &[(4 * K, 4, 1, false), (4 * K, 128, 1, false), (512, 32, 1, false), (K * K, 8, 1, false)];
    let all = match matrix {
        Matrix::Quick => vec![quick],
        Matrix::Bars => vec![quick, bars],
        Matrix::Full => vec![quick, more, bars],
    };
    all.into_iter()
        .flatten()
        .flat_map(|&(size, depth, connections, digests)| {
            [Operation::Read, Operation::Write].map(|one| Case::new(one, size, depth, connections, digests))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_have_names_and_arguments() {
        let names: Vec<String> = cases(Matrix::Quick).iter().map(Case::name).collect();
        assert_eq!(
            names,
            [
                "4 KiB READ QD 1",
                "4 KiB WRITE QD 1",
                "4 KiB READ QD 32",
                "4 KiB WRITE QD 32",
                "128 KiB READ QD 8",
                "128 KiB WRITE QD 8"
            ]
        );
        let case = Case::new(Operation::Write, 1 << 20, 8, 4, true);
        assert_eq!(case.name(), "1 MiB WRITE QD 8 x4 digests");
        assert_eq!(
            case.arguments().join(" "),
            "--op write --order sequential --size 1048576 --depth 8 --connections 4 --header-digest --data-digest"
        );
        assert_eq!((cases(Matrix::Bars).len(), cases(Matrix::Full).len()), (14, 22));
    }
}
