use std::{collections::HashMap, time::Instant};

use proptest::prelude::*;

use super::*;

fn quota(rate: u32, burst: u32) -> Quota {
    Quota::new(NonZeroU32::new(rate).unwrap(), NonZeroU32::new(burst).unwrap())
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn a_full_bucket_gives_its_burst_and_then_its_rate() {
    let start = Instant::now();
    let buckets = TokenBuckets::new(100, start);
    let ask = |at| buckets.take("a", quota(10, 5), start + ms(at));
    for _ in 0..5 {
        assert_eq!(ask(0), Ok(()));
    }
    assert_eq!(ask(40), Err(RetryAfter(ms(60))));
    assert_eq!(ask(100), Ok(()));
    assert_eq!(ask(100), Err(RetryAfter(ms(100))));
    assert_eq!(buckets.take("b", quota(10, 5), start), Ok(()));
}

#[test]
fn a_booked_token_is_gone_for_everybody_else() {
    let start = Instant::now();
    let buckets = TokenBuckets::new(100, start);
    let one = quota(10, 1);
    assert_eq!(buckets.book("a", one, start, ms(150)), Ok(Duration::ZERO));
    assert_eq!(buckets.book("a", one, start, ms(150)), Ok(ms(100)));
    assert_eq!(buckets.book("a", one, start, ms(150)), Err(RetryAfter(ms(200))));
    assert!(buckets.take("a", one, start + ms(100)).is_err());
    assert_eq!(buckets.take("a", one, start + ms(200)), Ok(()));
}

#[test]
fn those_who_are_refused_are_told_one_moment_each() {
    let start = Instant::now();
    let buckets = TokenBuckets::new(100, start);
    let ask = |at| buckets.take("a", quota(10, 1), start + ms(at));
    assert_eq!(ask(0), Ok(()));
    assert_eq!(ask(0), Err(RetryAfter(ms(100))));
    assert_eq!(ask(0), Err(RetryAfter(ms(200))));
    assert_eq!(ask(100), Ok(()));
    // After the one who will come at 200.
    assert_eq!(ask(130), Err(RetryAfter(ms(170))));
    assert_eq!(ask(200), Ok(()));
    assert_eq!(ask(300), Ok(()));
    // Of those who were told before, none is left.
    assert_eq!(ask(310), Err(RetryAfter(ms(90))));
}

#[test]
fn nobody_is_told_to_wait_for_longer_than_the_queue_unless_the_rate_is_that_low() {
    let start = Instant::now();
    let buckets = TokenBuckets::new(100, start);
    assert_eq!(buckets.take("a", quota(10, 1), start), Ok(()));
    for _ in 0..1000 {
        let Err(RetryAfter(wait)) = buckets.take("a", quota(10, 1), start) else {
            panic!("admitted");
        };
        assert!(wait <= ms(5000), "{wait:?}");
    }
}

#[test]
fn full_buckets_are_forgotten() {
    let start = Instant::now();
    let buckets = TokenBuckets::new(1 << 20, start);
    // Each is full again after 100 ms.
    for i in 0..20_000_u64 {
        assert_eq!(buckets.take(i, quota(10, 1), start + ms(i)), Ok(()));
    }
    // Two generations of about 100 ms in each of 16 shards.
    assert!(buckets.len() < 1000, "{}", buckets.len());
}

#[test]
fn a_bucket_in_use_survives_a_flood_of_others() {
    let start = Instant::now();
    let buckets = TokenBuckets::new(1024, start);
    let slow = quota(1, 1);
    assert_eq!(buckets.take(0, slow, start), Ok(()));
    for i in 1..100_000_u32 {
        assert_eq!(buckets.take(i, slow, start), Ok(()));
        if i % 10 == 0 {
            assert!(buckets.take(0, slow, start).is_err());
        }
    }
    assert!(buckets.len() <= 1024, "{}", buckets.len());
}

#[test]
fn a_time_before_the_last_does_not_grant_more() {
    let start = Instant::now();
    let buckets = TokenBuckets::new(10, start);
    assert_eq!(buckets.take(0, quota(10, 1), start + ms(1000)), Ok(()));
    assert_eq!(buckets.take(0, quota(10, 1), start + ms(500)), Err(RetryAfter(ms(600))));
}

#[test]
fn an_ipv6_client_is_its_network() {
    let of = |text: &str| ClientNetwork::from(text.parse::<IpAddr>().unwrap());
    assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
    assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    assert_ne!(of("::c000:201:0:0:0:0"), of("192.0.2.1"));
}

/// Attempts: how long after the one before, and for which key.
fn attempts() -> impl Strategy<Value = Vec<(Duration, u8)>> {
    let pause = prop_oneof![Just(0), 0_u64..2_000_000, 0_u64..1_500_000_000];
    prop::collection::vec((pause.prop_map(Duration::from_nanos), 0_u8..3), 1..300)
}

proptest! {
    #[test]
    fn no_window_admits_more_than_burst_and_rate(
        attempts in attempts(),
        rate in 1_u32..2000,
        burst in 1_u32..50,
    ) {
        let start = Instant::now();
        let buckets = TokenBuckets::new(64, start);
        let mut now = start;
        let mut admitted: HashMap<u8, Vec<Instant>> = HashMap::new();
        for (pause, key) in attempts {
            now += pause;
            if buckets.take(key, quota(rate, burst), now).is_ok() {
                admitted.entry(key).or_default().push(now);
            }
        }
        for times in admitted.values() {
            for (i, &from) in times.iter().enumerate() {
                for (j, &to) in times.iter().enumerate().skip(i) {
                    let most = u128::from(burst) + u128::from(rate) * (to - from).as_nanos() / 1_000_000_000;
                    prop_assert!((j - i + 1) as u128 <= most, "{} in {:?}", j - i + 1, to - from);
                }
            }
        }
    }

    #[test]
    fn retry_after_is_the_first_moment_that_gets_in(
        attempts in attempts(),
        rate in 1_u32..2000,
        burst in 1_u32..50,
    ) {
        let start = Instant::now();
        let buckets = TokenBuckets::new(64, start);
        let mut now = start;
        for (pause, _) in attempts {
            now += pause;
            if let Err(RetryAfter(wait)) = buckets.take(0, quota(rate, burst), now) {
                let early = now + wait - Duration::from_nanos(1);
                prop_assert!(buckets.take(0, quota(rate, burst), early).is_err());
                prop_assert_eq!(buckets.take(0, quota(rate, burst), now + wait), Ok(()));
                break;
            }
        }
    }

    #[test]
    fn all_who_come_when_they_were_told_get_in(
        asked in 1_usize..150,
        rate in 100_u32..2000,
        burst in 1_u32..50,
    ) {
        let start = Instant::now();
        let buckets = TokenBuckets::new(64, start);
        let refused = (0..asked).filter_map(|_| buckets.take(0, quota(rate, burst), start).err());
        let mut told: Vec<Instant> = refused.map(|RetryAfter(wait)| start + wait).collect();
        prop_assert_eq!(told.len(), asked.saturating_sub(burst as usize));
        told.sort_unstable();
        for at in told {
            prop_assert_eq!(buckets.take(0, quota(rate, burst), at), Ok(()));
        }
    }

    #[test]
    fn booked_tokens_keep_to_the_quota_when_they_are_used(
        attempts in attempts(),
        rate in 1_u32..200,
        burst in 1_u32..20,
        patience in 0_u64..1_000,
    ) {
        let start = Instant::now();
        let buckets = TokenBuckets::new(64, start);
        let mut now = start;
        let mut used = Vec::new();
        for (pause, _) in attempts {
            now += pause;
            if let Ok(wait) = buckets.book(0, quota(rate, burst), now, ms(patience)) {
                prop_assert!(wait <= ms(patience));
                used.push(now + wait);
            }
        }
        used.sort_unstable();
        for (i, &from) in used.iter().enumerate() {
            for (j, &to) in used.iter().enumerate().skip(i) {
                let most = u128::from(burst) + u128::from(rate) * (to - from).as_nanos() / 1_000_000_000;
                prop_assert!((j - i + 1) as u128 <= most);
            }
        }
    }

    #[test]
    fn no_more_buckets_are_kept_than_allowed(keys in prop::collection::vec(any::<u16>(), 1..2000), max in 2_usize..500) {
        let start = Instant::now();
        let buckets = TokenBuckets::new(max, start);
        for key in keys {
            let taken = buckets.take(key, quota(1, 3), start);
            prop_assert!(buckets.len() <= max, "{:?}", taken);
        }
    }

    #[test]
    fn forgetting_full_buckets_changes_no_answer(attempts in attempts(), rate in 1_u32..50, burst in 1_u32..10) {
        let start = Instant::now();
        let forgetful = TokenBuckets::new(64, start);
        let mut full_at: HashMap<u8, u64> = HashMap::new();
        let (mut now, quota) = (start, quota(rate, burst));
        for (pause, key) in attempts {
            now += pause;
            let at = u64::try_from((now - start).as_nanos()).unwrap();
            let then = full_at.get(&key).copied().unwrap_or_default().max(at) + quota.interval();
            let expected = match then.saturating_sub(at + quota.window()) {
                0 => {
                    full_at.insert(key, then);
                    Ok(())
                }
                wait => Err(RetryAfter(Duration::from_nanos(wait))),
            };
            let taken = forgetful.take(key, quota, now);
            // Others may have been told to come before.
            prop_assert!(taken == expected || taken.is_err() && taken.unwrap_err().0 >= expected.unwrap_err().0);
        }
    }
}
