//! Lists of CPUs or memory nodes as the kernel writes them (cpuset(7) "List format"): `0-3,7`.

/// The first number that is refused, more than any kernel has CPUs or nodes.
const LIMIT: u32 = 1 << 16;

/// The list as a bit mask, bit N for number N; `None` when it is not one. Blanks may stand around
/// the commas.
pub fn bits(list: &str) -> Option<Vec<u64>> {
    let mut mask = Vec::new();
    for item in list.split(',').map(str::trim) {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        for id in first..=last {
            let word = id as usize / 64;
            if mask.len() <= word {
                mask.resize(word + 1, 0);
            }
            mask[word] |= 1 << (id % 64);
        }
    }
    Some(mask)
}

fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number < LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_bit_masks() {
        for (list, mask) in [
            ("0", vec![0b1]),
            ("0-3", vec![0b1111]),
            ("0-3,7", vec![0b1000_1111]),
            ("1, 2 ,4", vec![0b1_0110]),
            ("5-5,5", vec![0b10_0000]),
            ("63-64", vec![1 << 63, 1]),
            ("128", vec![0, 0, 1]),
        ] {
            assert_eq!(bits(list), Some(mask), "{list}");
        }
        assert_eq!(bits("1023-1025,65535").unwrap().len(), 1024);
    }

    #[test]
    fn what_is_no_list() {
        let bad = "|,|a|3-1|1-|-1|0-3,|+1|0-+1|1--2|0 1|0 -1|65536|0-65536|4294967296|1-2-3|0x1";
        for list in bad.split('|') {
            assert_eq!(bits(list), None, "{list:?}");
        }
    }
}
