//! The system call filter: from data in `profiles/seccomp/` to a BPF program; seccomp(2).
//!
//! A call is let through, quietly refused with an errno, or *held*: the kernel stops it and asks
//! init, which refuses it with EPERM and takes its name down. The program is a binary search over
//! call numbers; a linear list, as common filter libraries make it, costs the kernel several
//! hundred thousand steps when it precomputes its cache of allowed calls at installation.

mod names;

use std::collections::BTreeMap;

use serde::Deserialize;
use syscalls::Sysno;

use crate::sys::seccomp::Instruction;

use names::{call_named, value_of, values_of};
pub use names::{describe, relevant_arguments};

/// A filter as written in its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    allow: Vec<Group>,
    #[serde(default)]
    quiet: Vec<QuietGroup>,
    #[serde(default)]
    argument: Vec<Argument>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "why")]
    _why: String,
    calls: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuietGroup {
    #[serde(rename = "why")]
    _why: String,
    errno: String,
    calls: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Argument {
    #[serde(rename = "why")]
    _why: String,
    call: String,
    index: u8,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    allow_with_loopback: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    deny_bits: Vec<String>,
    #[serde(default)]
    quiet: Vec<String>,
    errno: Option<String>,
    /// What else must be so of a call that `allow` lets through.
    then: Option<Then>,
}

/// A second argument, which has one of these values.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Then {
    index: u8,
    allow: Vec<String>,
}

/// A filter that can't be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The file does not have the right form.
    #[error("the filter's file: {0}")]
    Syntax(String),
    /// A constant has no known value.
    #[error("the filter's file names {0:?}, whose value is not known")]
    UnknownName(String),
    /// A call stands in two places.
    #[error("the filter's file names the call {0} twice")]
    Twice(String),
    /// An entry with an argument lacks or doubles its lists.
    #[error("the entry of {0} must have one of allow, deny and deny_bits, and an errno where it has quiet")]
    BadArgument(String),
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Allow,
    Errno(u32),
    Hold,
    /// Depends on the low 32 bits of an argument, which is all that the kernel looks at in the
    /// calls that are filtered so: the entries in order, then the rest.
    Argument {
        index: u8,
        tests: Vec<(Test, Action)>,
        otherwise: Box<Action>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Equals(u32),
    AnyBit(u32),
}

/// A filter, ready to be installed.
#[derive(Debug, Clone)]
pub struct Filter {
    program: Vec<Instruction>,
}

impl Filter {
    /// Builds the filter of a file of `profiles/seccomp/`; `loopback` lets internet sockets through.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn build(text: &str, loopback: bool) -> Result<Self, FilterError> {
        Ok(Self { program: compile(&actions(&parse(text)?, loopback)?, HELD) })
    }

    /// The filter of init, who is not asked about itself: what its file does not name fails with
    /// EPERM. That of a renewable sandbox has the calls of `renewal.toml` besides.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn of_init(renewable: bool) -> Result<Self, FilterError> {
        let mut all = actions(&parse(include_str!("../../profiles/seccomp/init.toml"))?, false)?;
        if renewable {
            all.extend(actions(&parse(include_str!("../../profiles/seccomp/renewal.toml"))?, false)?);
        }
        Ok(Self { program: compile(&all, REFUSED) })
    }

    /// The filter of workers, which are not asked about themselves either. Whether one reaches a port is for
    /// the sandbox's network and Landlock to say.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of_worker() -> Result<Self, FilterError> {
        let source = parse(include_str!("../../profiles/seccomp/worker.toml"))?;
        Ok(Self { program: compile(&actions(&source, true)?, REFUSED) })
    }

    /// The filter of programs that work on real directories: that of `default.toml` with the changes of `agent.toml`,
    /// but for those to local sockets where `unix_sockets` says so. What neither names fails with EPERM and is not
    /// told: such a program may run for days.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn of_agent(unix_sockets: bool) -> Result<Self, FilterError> {
        let usual = parse(include_str!("../../profiles/seccomp/default.toml"))?;
        let mut changes = parse(include_str!("../../profiles/seccomp/agent.toml"))?;
        if unix_sockets {
            changes.argument.retain(|entry| !["socket", "socketpair"].contains(&entry.call.as_str()));
        }
        let mut all = actions(&usual, true)?;
        all.extend(actions(&changes, true)?);
        Ok(Self { program: compile(&all, REFUSED) })
    }

    /// The filter of uplinks: what its file does not name kills the process.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn of_uplink() -> Result<Self, FilterError> {
        let source = parse(include_str!("../../profiles/seccomp/uplink.toml"))?;
        Ok(Self { program: compile(&actions(&source, false)?, libc::SECCOMP_RET_KILL_PROCESS) })
    }

    /// The BPF program.
    #[must_use]
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }
}

fn parse(text: &str) -> Result<Source, FilterError> {
    toml::from_str(text).map_err(|error| FilterError::Syntax(error.to_string()))
}

/// What happens to each call that the file names and this architecture has.
fn actions(source: &Source, loopback: bool) -> Result<BTreeMap<u32, Action>, FilterError> {
    let mut actions = BTreeMap::new();
    let mut put = |name: &str, action: Action| match call_named::<Sysno>(name) {
        Some(call) => match actions.insert(number_of(call), action) {
            None => Ok(()),
            Some(_) => Err(FilterError::Twice(name.to_owned())),
        },
        None => Ok(()),
    };
    for group in &source.allow {
        for call in &group.calls {
            put(call, Action::Allow)?;
        }
    }
    for group in &source.quiet {
        let errno = value_of(&group.errno)?;
        for call in &group.calls {
            put(call, Action::Errno(errno))?;
        }
    }
    for entry in &source.argument {
        put(&entry.call, argument_action(entry, loopback)?)?;
    }
    Ok(actions)
}

fn argument_action(entry: &Argument, loopback: bool) -> Result<Action, FilterError> {
    let lists = [&entry.allow, &entry.deny, &entry.deny_bits].iter().filter(|list| !list.is_empty()).count();
    if lists != 1 || entry.quiet.is_empty() != entry.errno.is_none() {
        return Err(FilterError::BadArgument(entry.call.clone()));
    }
    let mut tests = Vec::new();
    let mut add = |names: &[String], action: &Action| {
        for name in names {
            tests.push((Test::Equals(value_of(name)?), action.clone()));
        }
        Ok::<(), FilterError>(())
    };
    let allowed = match &entry.then {
        None => Action::Allow,
        Some(then) => {
            let named = |name: &String| Ok((Test::Equals(values_of(name)?), Action::Allow));
            let tests = then.allow.iter().map(named).collect::<Result<_, FilterError>>()?;
            Action::Argument { index: then.index, tests, otherwise: Box::new(Action::Hold) }
        }
    };
    add(&entry.allow, &allowed)?;
    if loopback {
        add(&entry.allow_with_loopback, &Action::Allow)?;
    }
    add(&entry.deny, &Action::Hold)?;
    if let Some(errno) = &entry.errno {
        add(&entry.quiet, &Action::Errno(value_of(errno)?))?;
    }
    let mut bits = 0;
    for name in &entry.deny_bits {
        bits |= value_of(name)?;
    }
    if bits != 0 {
        tests.push((Test::AnyBit(bits), Action::Hold));
    }
    let otherwise = if entry.allow.is_empty() { Action::Allow } else { Action::Hold };
    Ok(Action::Argument { index: entry.index, tests, otherwise: Box::new(otherwise) })
}

fn number_of(call: Sysno) -> u32 {
    u32::try_from(call.id()).expect("numbers of system calls are small and positive")
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64, linux/audit.h
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64, linux/audit.h

/// The kernel asks init.
const HELD: u32 = libc::SECCOMP_RET_USER_NOTIF;
/// The call fails with EPERM.
const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();

/// Numbers from here on are the x32 ABI's on x86_64; syscall(2).
const X32_BIT: u32 = 0x4000_0000;

const OFFSET_NUMBER: u32 = 0;
const OFFSET_ARCHITECTURE: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

/// The whole program: check the architecture, then search for the number. `held` is what becomes of
/// a call that is neither let through nor quietly refused.
fn compile(actions: &BTreeMap<u32, Action>, held: u32) -> Vec<Instruction> {
    let mut ranges: Vec<(u32, Action)> = vec![(0, Action::Hold)];
    let mut next = 0;
    let mut put = |start: u32, action: &Action| {
        if ranges.last().is_some_and(|(_, last)| last != action) {
            if ranges.last().is_some_and(|(last, _)| *last == start) {
                ranges.pop();
            }
            ranges.push((start, action.clone()));
        }
    };
    for (number, action) in actions {
        if *number > next {
            put(next, &Action::Hold);
        }
        put(*number, action);
        next = number + 1;
    }
    put(next, &Action::Hold);
    put(X32_BIT, &Action::Errno(libc::ENOSYS.cast_unsigned()));
    let mut program = vec![
        load(OFFSET_ARCHITECTURE),
        jump(libc::BPF_JEQ, AUDIT_ARCHITECTURE, 1, 0),
        finish(libc::SECCOMP_RET_KILL_PROCESS),
        load(OFFSET_NUMBER),
    ];
    program.extend(search(&ranges, held));
    program
}

/// Code that finds the range of the number in the accumulator and does what it says.
fn search(ranges: &[(u32, Action)], held: u32) -> Vec<Instruction> {
    if let [(_, action)] = ranges {
        return act(action, held);
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (pivot, _) = above.first().expect("half of two or more ranges");
    let below = search(below, held);
    let mut code = match u8::try_from(below.len()) {
        Ok(distance) => vec![jump(libc::BPF_JGE, *pivot, distance, 0)],
        // Conditional jumps reach 255 instructions; an unconditional one reaches any.
        Err(_) => vec![jump(libc::BPF_JGE, *pivot, 0, 1), jump_always(below.len())],
    };
    code.extend(below);
    code.extend(search(above, held));
    code
}

fn act(action: &Action, held: u32) -> Vec<Instruction> {
    match action {
        Action::Allow => vec![finish(libc::SECCOMP_RET_ALLOW)],
        Action::Errno(errno) => vec![finish(libc::SECCOMP_RET_ERRNO | errno)],
        Action::Hold => vec![finish(held)],
        Action::Argument { index, tests, otherwise } => {
            let mut code = vec![load(OFFSET_ARGUMENTS + 8 * u32::from(*index))];
            for (test, action) in tests {
                let (kind, value) = match test {
                    Test::Equals(value) => (libc::BPF_JEQ, value),
                    Test::AnyBit(bits) => (libc::BPF_JSET, bits),
                };
                let then = act(action, held);
                let behind = u8::try_from(then.len()).expect("what an argument decides is short");
                code.push(jump(kind, *value, 0, behind));
                code.extend(then);
            }
            code.extend(act(otherwise, held));
            code
        }
    }
}

fn load(offset: u32) -> Instruction {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn finish(value: u32) -> Instruction {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, value)
}

fn jump(kind: u32, value: u32, if_true: u8, if_false: u8) -> Instruction {
    instruction(libc::BPF_JMP | kind | libc::BPF_K, if_true, if_false, value)
}

fn jump_always(distance: usize) -> Instruction {
    instruction(libc::BPF_JMP | libc::BPF_JA, 0, 0, u32::try_from(distance).expect("programs are short"))
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code: u16::try_from(code).expect("opcodes fit 16 bits"), jt, jf, k }
}

#[cfg(test)]
mod tests;
