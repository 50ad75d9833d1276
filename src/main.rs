use std::process::ExitCode;

/// A delivery is made of many small pieces that one thread allocates and another frees, which is what the allocator of the C
/// library is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    contact_replicator::cli::main()
}
