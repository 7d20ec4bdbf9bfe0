//! The queue: bounded, and fair among clients. Each client's jobs keep their order; clients take
//! turns.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Queue<T> {
    /// Clients that have something waiting, the one whose turn it is first.
    clients: VecDeque<(u32, VecDeque<T>)>,
    length: usize,
    most: usize,
    most_per_client: usize,
}

/// Why nothing more fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Client,
}

impl<T> Queue<T> {
    pub(super) fn new(most: usize, most_per_client: usize) -> Self {
        Self { clients: VecDeque::new(), length: 0, most, most_per_client }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn push(&mut self, client: u32, item: T) -> Result<(), Full> {
        if self.length >= self.most {
            return Err(Full::All);
        }
        match self.clients.iter_mut().find(|(known, _)| *known == client) {
            Some((_, items)) if items.len() >= self.most_per_client => return Err(Full::Client),
            Some((_, items)) => items.push_back(item),
            None if self.most_per_client == 0 => return Err(Full::Client),
            None => self.clients.push_back((client, VecDeque::from([item]))),
        }
        self.length += 1;
        Ok(())
    }

    /// The first item of the first client whose first item fits; that client's next turn is last.
    ///
    /// Where the first client's item does not fit, nobody overtakes it but those who fit now: it
    /// keeps its turn.
    pub(super) fn pop(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let index = self.clients.iter().position(|(_, items)| items.front().is_some_and(&fits))?;
        let (client, mut items) = self.clients.remove(index)?;
        let item = items.pop_front();
        if !items.is_empty() {
            self.clients.push_back((client, items));
        }
        self.length -= 1;
        item
    }

    pub(super) fn remove(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        for client in 0..self.clients.len() {
            let (_, items) = self.clients.get_mut(client)?;
            if let Some(index) = items.iter().position(&is) {
                let item = items.remove(index);
                if items.is_empty() {
                    self.clients.remove(client);
                }
                self.length -= 1;
                return item;
            }
        }
        None
    }

    pub(super) fn drain(&mut self) -> Vec<T> {
        self.length = 0;
        self.clients.drain(..).flat_map(|(_, items)| items).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_take_turns() {
        let mut queue = Queue::new(10, 10);
        for item in ["a1", "a2", "a3"] {
            queue.push(1, item).unwrap();
        }
        queue.push(2, "b1").unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(|_| true)).collect();
        assert_eq!(order, ["a1", "b1", "a2", "a3"]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn full_queue_refuses() {
        let mut queue = Queue::new(3, 2);
        assert_eq!(queue.push(1, ()), Ok(()));
        assert_eq!(queue.push(1, ()), Ok(()));
        assert_eq!(queue.push(1, ()), Err(Full::Client));
        assert_eq!(queue.push(2, ()), Ok(()));
        assert_eq!(queue.push(3, ()), Err(Full::All));
    }

    #[test]
    fn what_does_not_fit_keeps_its_turn() {
        let mut queue = Queue::new(10, 10);
        queue.push(1, 100).unwrap();
        queue.push(2, 1).unwrap();
        assert_eq!(queue.pop(|size| *size < 10), Some(1));
        assert_eq!(queue.pop(|size| *size < 10), None);
        assert_eq!(queue.pop(|_| true), Some(100));
    }

    #[test]
    fn a_removed_item_leaves_no_hole() {
        let mut queue = Queue::new(10, 10);
        queue.push(1, 1).unwrap();
        queue.push(1, 2).unwrap();
        assert_eq!(queue.remove(|item| *item == 1), Some(1));
        assert_eq!(queue.remove(|item| *item == 1), None);
        assert_eq!((queue.len(), queue.drain()), (1, vec![2]));
    }
}
