//! Kernels: programs in the sandbox that run one piece of code after another in one state.

/// The kernels that come with the program: file name and text; see `profiles/kernels/README.md`.
pub const KERNELS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Directory of the kernels in a sandbox.
pub const KERNEL_DIRECTORY: &str = "/runtime/kernels";
