//! One function, compiled for the vectors of several processors.
//! In: a function whose callees are inlined always. Out: the same function, which asks the processor once per call what it knows.

/// `fn name(arguments) { body }`, once for any processor, once with AVX2 and once with AVX-512.
macro_rules! for_long_vectors {
    ($(#[$meta:meta])* $visible:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$meta])*
        $visible fn $name($($argument: $type),*) $(-> $out)? {
            #[inline(always)]
            fn portable($($argument: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn with_avx2($($argument: $type),*) $(-> $out)? {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,fma")]
            fn with_avx512($($argument: $type),*) $(-> $out)? {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::is_x86_feature_detected as has;
                if has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") && has!("fma") {
                    // SAFETY: the processor has just said that it knows these instructions.
                    return unsafe { with_avx512($($argument),*) };
                }
                if has!("avx2") && has!("fma") {
                    // SAFETY: as above.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            portable($($argument),*)
        }
    };
}

pub(crate) use for_long_vectors;
