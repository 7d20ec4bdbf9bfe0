//! Orders on their way from the launcher to an uplink: a short one is a message, and a long one a sealed memory file
//! that comes with a message that tells its length.
//!
//! A message has to fit what the kernel keeps for a socket, which the largest policy does not.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno as Number;

use crate::sys::{Errno, Result, fs, socket};

use super::Order;

/// Longest order that is a message, in bytes; also the longest message.
pub(super) const MESSAGE_BYTES: usize = 8 << 10;
/// Longest order, in bytes: 4096 names of full length with 64 ports each are not half of it.
pub const ORDER_BYTES: usize = 4 << 20;

/// Sends an order.
///
/// # Errors
/// EMSGSIZE where it is longer than any can be; as memfd_create(2) and sendmsg(2).
pub fn send(control: BorrowedFd<'_>, order: &Order) -> Result<()> {
    let too_long = || Errno { call: "sendmsg", errno: Number::EMSGSIZE };
    let bytes = postcard::to_allocvec(order).map_err(|_| too_long())?;
    if bytes.len() <= MESSAGE_BYTES {
        return socket::send(control, &bytes, &[]);
    }
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= ORDER_BYTES).ok_or_else(too_long)?;
    let file = fs::sealed_memory(c"order", &bytes)?;
    socket::send(control, &length.to_ne_bytes(), &[file.as_fd()])
}

/// The order of a message and of the descriptors that came with it; `None` where it makes no sense.
pub(super) fn of_message(bytes: &[u8], descriptors: &[OwnedFd]) -> Option<Order> {
    let Some(file) = descriptors.first() else {
        return postcard::from_bytes(bytes).ok();
    };
    let length = usize::try_from(u32::from_ne_bytes(bytes.try_into().ok()?)).ok()?;
    if length > ORDER_BYTES {
        return None;
    }
    let text = fs::read_exactly(file.as_fd(), length).ok()?;
    postcard::from_bytes(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{AllowList, Destination, Host};

    fn received(order: &Order) -> (usize, Option<Order>) {
        let (ours, theirs) = socket::pair().unwrap();
        send(ours.as_fd(), order).unwrap();
        let mut buffer = [0; MESSAGE_BYTES];
        let message = socket::receive(theirs.as_fd(), &mut buffer).unwrap();
        (message.descriptors.len(), of_message(&buffer[..message.length], &message.descriptors))
    }

    fn policy(count: usize) -> Order {
        // As long as a name can be.
        let tail = ["a".repeat(63), "b".repeat(63), "c".repeat(61)].join(".");
        let host = |number: usize| Host::Domain(format!("{number:063}.{tail}").parse().unwrap());
        let ports: std::collections::BTreeSet<u16> = (65_000..65_064).collect();
        let allow = (0..count).map(|number| Destination { host: host(number), ports: ports.clone() }).collect();
        Order::Policy(AllowList { allow, ..AllowList::default() })
    }

    #[test]
    fn a_short_order_is_a_message() {
        assert_eq!(received(&Order::Assert), (0, Some(Order::Assert)));
        assert_eq!(received(&policy(1)), (0, Some(policy(1))));
    }

    #[test]
    fn the_longest_policy_that_can_be_arrives() {
        let longest = policy(crate::profile::DESTINATIONS);
        assert!(postcard::to_allocvec(&longest).unwrap().len() > 1 << 20);
        assert_eq!(received(&longest), (1, Some(longest)));
    }

    #[test]
    fn a_file_that_is_not_as_it_was_told_is_no_order() {
        let bytes = postcard::to_allocvec(&policy(100)).unwrap();
        let file = || vec![fs::sealed_memory(c"order", &bytes).unwrap()];
        let told = |length: usize| u32::try_from(length).unwrap().to_ne_bytes();
        assert!(of_message(&told(bytes.len()), &file()).is_some());
        assert_eq!(of_message(&told(bytes.len() + 1), &file()), None);
        assert_eq!(of_message(&told(bytes.len() - 1), &file()), None);
        assert_eq!(of_message(&told(ORDER_BYTES + 1), &file()), None);
        assert_eq!(of_message(b"", &file()), None);
    }
}
