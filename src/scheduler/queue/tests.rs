//! The queue on its own: order, bounds, and a simulation of clients that want more than there is.

use proptest::prelude::*;

use super::*;

fn quota(client: &str, weight: u32, concurrency: usize, queue_length: usize) -> Arc<Quota> {
    Arc::new(Quota {
        client: client.into(),
        weight,
        concurrency,
        queue_length,
        queue_length_key: String::new(),
        profiles: None,
        sessions: 0,
        sessions_key: String::new(),
    })
}

fn equal(client: &str) -> Arc<Quota> {
    quota(client, 1, 0, usize::MAX)
}

fn pop<T>(queue: &mut Queue<T>) -> Option<T> {
    queue.pop(|_| true).map(|(_, item)| item)
}

#[test]
fn clients_take_turns() {
    let mut queue = Queue::new(10);
    for item in ["a1", "a2", "a3"] {
        queue.push(&equal("a"), item).unwrap();
    }
    queue.push(&equal("b"), "b1").unwrap();
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue)).collect();
    assert_eq!(order, ["a1", "b1", "a2", "a3"]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn weight_3_gets_three_turns_for_one() {
    let mut queue = Queue::new(100);
    for _ in 0..20 {
        queue.push(&equal("b"), 'b').unwrap();
        queue.push(&quota("a", 3, 0, 100), 'a').unwrap();
    }
    let order: String = std::iter::from_fn(|| pop(&mut queue)).take(12).collect();
    assert_eq!(order, "aabaaabaaaba");
}

#[test]
fn full_queue_refuses() {
    let mut queue = Queue::new(3);
    let two = |client| quota(client, 1, 0, 2);
    assert_eq!(queue.push(&two("a"), ()), Ok(()));
    assert_eq!(queue.push(&two("a"), ()), Ok(()));
    assert_eq!(queue.push(&two("a"), ()), Err(Full::Client));
    assert_eq!(queue.push(&two("b"), ()), Ok(()));
    assert_eq!(queue.push(&two("c"), ()), Err(Full::All));
}

#[test]
fn what_does_not_fit_keeps_its_turn() {
    let mut queue = Queue::new(10);
    queue.push(&equal("a"), 100).unwrap();
    queue.push(&equal("b"), 1).unwrap();
    assert_eq!(queue.pop(|size| *size < 10).map(|(_, size)| size), Some(1));
    assert_eq!(queue.pop(|size| *size < 10), None);
    assert_eq!(pop(&mut queue), Some(100));
}

#[test]
fn what_does_not_fit_is_not_overtaken_for_ever() {
    let mut queue = Queue::new(1000);
    queue.push(&equal("large"), 100).unwrap();
    queue.push(&equal("large"), 200).unwrap();
    let overtakes = |queue: &mut Queue<i32>| {
        queue.push(&equal("small"), 1).unwrap();
        queue.pop(|size| *size < 10).is_some()
    };
    let overtaken = (0..500).take_while(|_| overtakes(&mut queue)).count();
    assert_eq!(overtaken, MOST_PASSED_OVER as usize);
    assert_eq!(pop(&mut queue), Some(100));
    assert_eq!(pop(&mut queue), Some(1));
    // The next one begins to count anew.
    assert!(overtakes(&mut queue));
}

#[test]
fn a_client_at_its_bound_waits_for_itself_alone() {
    let mut queue = Queue::new(10);
    let bounded = quota("a", 9, 2, 10);
    for _ in 0..4 {
        queue.push(&bounded, 'a').unwrap();
    }
    for _ in 0..3 {
        queue.push(&equal("b"), 'b').unwrap();
    }
    let order: String = std::iter::from_fn(|| pop(&mut queue)).collect();
    assert_eq!(order, "aabbb");
    queue.ended("b");
    assert_eq!(pop(&mut queue), None);
    queue.ended("a");
    assert_eq!(pop(&mut queue), Some('a'));
    assert_eq!(pop(&mut queue), None);
}

#[test]
fn who_was_at_a_bound_or_away_has_saved_nothing_up() {
    let mut queue = Queue::new(1000);
    let bounded = quota("a", 1, 1, 100);
    for _ in 0..9 {
        queue.push(&bounded, 'a').unwrap();
    }
    for _ in 0..200 {
        queue.push(&equal("b"), 'b').unwrap();
    }
    assert_eq!(pop(&mut queue), Some('a'));
    for _ in 0..100 {
        assert_eq!(pop(&mut queue), Some('b'));
    }
    let mut order = String::new();
    for _ in 0..6 {
        // Each of its jobs ends before the next turn.
        queue.ended("a");
        order.extend(pop(&mut queue));
    }
    assert_eq!(order.matches('a').count(), 3, "{order}");
}

#[test]
fn a_new_quota_is_in_force_from_the_next_job_on() {
    let mut queue = Queue::new(10);
    queue.push(&quota("a", 1, 1, 1), 1).unwrap();
    assert_eq!(queue.push(&quota("a", 1, 1, 1), 2), Err(Full::Client));
    queue.push(&quota("a", 1, 2, 5), 2).unwrap();
    assert_eq!((pop(&mut queue), pop(&mut queue)), (Some(1), Some(2)));
    queue.push(&quota("a", 1, 2, 5), 3).unwrap();
    assert_eq!(pop(&mut queue), None);
    queue.bound(1, |client| (client == "a").then(|| quota("a", 1, 3, 5)));
    assert_eq!(queue.push(&quota("a", 1, 3, 5), 4), Err(Full::All));
    assert_eq!(pop(&mut queue), Some(3));
}

#[test]
fn a_removed_item_leaves_no_hole() {
    let mut queue = Queue::new(10);
    queue.push(&equal("a"), 1).unwrap();
    queue.push(&equal("a"), 2).unwrap();
    assert_eq!(queue.remove(|item| *item == 1), Some(1));
    assert_eq!(queue.remove(|item| *item == 1), None);
    assert_eq!((queue.len(), queue.drain()), (1, vec![2]));
    assert!(queue.clients.is_empty());
}

#[test]
fn what_waits_runs_and_has_started_is_counted_for_each_client() {
    let mut queue = Queue::new(10);
    for _ in 0..3 {
        queue.push(&equal("a"), ()).unwrap();
    }
    pop(&mut queue);
    pop(&mut queue);
    queue.ended("a");
    queue.push(&quota("b", 1, 0, 1), ()).unwrap();
    let loads: Vec<_> =
        queue.loads().iter().map(|load| (load.client.to_string(), load.queued, load.running, load.started)).collect();
    assert_eq!(loads, [("a".to_owned(), 1, 1, 2), ("b".to_owned(), 1, 0, 0)]);
}

#[test]
fn clients_without_number_are_not_counted_without_end() {
    let mut queue = Queue::new(10);
    for uid in 0..MOST_COUNTED + 50 {
        queue.push(&equal(&uid.to_string()), ()).unwrap();
        let (client, ()) = queue.pop(|()| true).unwrap();
        queue.ended(&client);
    }
    assert!(queue.clients.is_empty());
    let loads = queue.loads();
    assert_eq!(loads.len(), MOST_COUNTED + 1);
    assert_eq!(loads.iter().find(|load| &*load.client == OTHERS).map(|load| load.started), Some(50));
}

/// A host with this many slots and clients that always have something waiting; a job takes a time
/// that depends on its number. Returns how many of each client's jobs started.
fn simulate(weights: &[u32], concurrency: &[usize], slots: usize, starts: usize) -> Vec<usize> {
    let quotas: Vec<Arc<Quota>> = weights
        .iter()
        .zip(concurrency)
        .enumerate()
        .map(|(index, (weight, most))| quota(&format!("c{index}"), *weight, *most, 4))
        .collect();
    let mut queue = Queue::new(4 * quotas.len());
    let mut running: Vec<(usize, Arc<str>, usize)> = Vec::new();
    let mut started = vec![0; quotas.len()];
    let mut now = 0;
    while started.iter().sum::<usize>() < starts {
        for (index, quota) in quotas.iter().enumerate() {
            while queue.push(quota, index).is_ok() {}
        }
        while running.len() < slots
            && let Some((client, index)) = queue.pop(|_| true)
        {
            started[index] += 1;
            running.push((now + 1 + started[index] * 7 % 5, client, index));
            let of_it = running.iter().filter(|(.., other)| *other == index).count();
            assert!(quotas[index].concurrency == 0 || of_it <= quotas[index].concurrency);
        }
        now += 1;
        running.retain(|(end, client, _)| {
            if *end <= now {
                queue.ended(client);
            }
            *end > now
        });
    }
    started
}

#[test]
fn who_always_wants_more_gets_a_share_by_weight() {
    let weights = [1, 2, 3, 10];
    let started = simulate(&weights, &[0; 4], 4, 16_000);
    for (weight, count) in weights.iter().zip(started) {
        let fair = *weight as usize * 1000;
        assert!(count.abs_diff(fair) <= 2, "{count} for weight {weight}, not {fair}");
    }
}

#[test]
fn what_a_bounded_client_leaves_is_shared_by_the_others() {
    let started = simulate(&[10, 1, 2], &[1, 0, 0], 4, 12_000);
    let (bounded, one, two) = (started[0], started[1], started[2]);
    // One of four slots, for all its weight.
    assert!((2_800..=3_200).contains(&bounded), "{started:?}");
    assert!(two.abs_diff(2 * one) <= 2, "{started:?}");
}

proptest! {
    /// Whoever has one job waiting gets its turn after a number of turns that the others' weights
    /// bound, whatever they push, and however many new clients come.
    #[test]
    fn nobody_starves(
        weights in prop::collection::vec(1_u32..=20, 0..6),
        before in prop::collection::vec((0_usize..12, any::<bool>()), 0..60),
        after in prop::collection::vec(prop::collection::vec(0_usize..12, 0..6), 1..10),
        weight in 1_u32..=20,
    ) {
        let mut queue = Queue::new(usize::MAX);
        let other = |number: usize| match weights.get(number) {
            Some(weight) => quota(&format!("c{number}"), *weight, 0, usize::MAX),
            None => equal(&number.to_string()),
        };
        for (number, starts) in before {
            queue.push(&other(number), false).unwrap();
            if starts {
                pop(&mut queue);
            }
        }
        for _ in 0..3 {
            queue.push(&quota("victim", weight, 0, 3), true).unwrap();
        }
        let mut newcomers = 1000;
        for turn in 0..3 {
            // Those that wait, once each, and what heavier ones get until one turn of the victim is over.
            let waiting = queue.clients.values().filter(|client| !client.items.is_empty()).count();
            let turns = |other: u32| usize::try_from(other.div_ceil(weight)).unwrap() + 1;
            let most = waiting + weights.iter().map(|other| turns(*other)).sum::<usize>() + 12 * turns(1);
            for count in 0.. {
                prop_assert!(count <= most, "turn {turn}: still waiting after {count} turns of others");
                for number in &after[count % after.len()] {
                    queue.push(&other(*number), false).unwrap();
                }
                newcomers += 1;
                queue.push(&equal(&newcomers.to_string()), false).unwrap();
                if pop(&mut queue) == Some(true) {
                    break;
                }
            }
        }
    }

    /// Whatever happens, nothing is lost, doubled, or out of its client's order, and no bound is passed.
    #[test]
    fn every_item_comes_out_once(
        steps in prop::collection::vec((0_usize..5, 0_u8..4, any::<u8>()), 0..200),
        bounds in prop::collection::vec((1_u32..5, 0_usize..3), 5),
    ) {
        let mut queue: Queue<(usize, usize)> = Queue::new(40);
        let mut pushed = [0; 5];
        let mut running: Vec<usize> = Vec::new();
        let mut last = [None; 5];
        let mut left = std::collections::BTreeSet::new();
        for (number, step, random) in steps {
            match step {
                0 | 1 => {
                    let (weight, concurrency) = bounds[number];
                    let quota = quota(&number.to_string(), weight, concurrency, 10);
                    if queue.push(&quota, (number, pushed[number])).is_ok() {
                        left.insert((number, pushed[number]));
                        pushed[number] += 1;
                    }
                }
                2 => {
                    if let Some((client, item)) = queue.pop(|(_, index)| (index * 7 + usize::from(random)) % 3 != 0) {
                        prop_assert_eq!(client.to_string(), item.0.to_string());
                        prop_assert!(left.remove(&item) && last[item.0] < Some(item.1));
                        last[item.0] = Some(item.1);
                        running.push(item.0);
                        let of_it = running.iter().filter(|other| **other == item.0).count();
                        prop_assert!(bounds[item.0].1 == 0 || of_it <= bounds[item.0].1);
                    }
                }
                _ if running.is_empty() => {}
                _ => {
                    let ended = running.swap_remove(usize::from(random) % running.len());
                    queue.ended(&ended.to_string());
                }
            }
            prop_assert_eq!(queue.len(), left.len());
        }
        let drained: std::collections::BTreeSet<_> = queue.drain().into_iter().collect();
        prop_assert_eq!(drained, left);
        for ended in running {
            queue.ended(&ended.to_string());
        }
        prop_assert!(queue.clients.is_empty());
    }
}
