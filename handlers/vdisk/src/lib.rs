//! Virtual disks: FILEIO and NULLIO
