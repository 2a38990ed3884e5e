//! One loop per core: io_uring, epoll with a pool, or simulated
