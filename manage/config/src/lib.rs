//! scst.conf: parser with positions, typed model, difference
