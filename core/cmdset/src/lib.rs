//! SPC and SBC command sets for virtual disks, without I/O
