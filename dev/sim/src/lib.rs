//! Deterministic simulation of the whole daemon with faults and checkers
