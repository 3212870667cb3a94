//! How do an address and a few numbers become text? Without std's formatting, which would cost more than all the rest of
//! a log's line.

use std::io::Write;
use std::net::IpAddr;

pub fn write_address(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => join(line, b'.', address.octets().map(usize::from)),
        IpAddr::V6(address) => drop(write!(line, "{address}")),
    }
}

/// A few numbers with something between them.
pub fn join<const N: usize>(line: &mut Vec<u8>, between: u8, numbers: [usize; N]) {
    const PLACES: usize = 128;
    const { assert!(N > 0 && N * 21 <= PLACES) };
    let (mut text, mut first) = ([between; PLACES], PLACES);
    // The remainder tells the compiler that each place is one of them.
    let mut put = |place: usize, digit: usize| text[place % PLACES] = b'0' + digit as u8;
    for mut number in numbers.into_iter().rev() {
        while number >= 10 {
            first -= 1;
            put(first, number % 10);
            number /= 10;
        }
        first -= 2;
        put(first + 1, number);
    }
    line.extend_from_slice(&text[first + 1..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut line = b"before ".to_vec();
        write(&mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn the_greatest_numbers_have_room() {
        assert_eq!(written(|line| join(line, b' ', [usize::MAX; 4])), format!("before {0} {0} {0} {0}", usize::MAX));
    }

    proptest! {
        #[test]
        fn std_writes_the_same(address: IpAddr, status in 0..1000_usize, size: usize) {
            prop_assert_eq!(written(|line| write_address(line, address)), format!("before {address}"));
            prop_assert_eq!(written(|line| join(line, b' ', [status, size])), format!("before {status} {size}"));
        }
    }
}
