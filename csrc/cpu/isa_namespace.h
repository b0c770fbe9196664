// The namespace of the build of one instruction set. The build defines FUSEDRNN_ISA_ID as v2, v3, v4 or baseline.
#pragma once

#if !defined(FUSEDRNN_ISA_ID)
#error "expected FUSEDRNN_ISA_ID to be v2, v3, v4 or baseline"
#endif
#define FUSEDRNN_JOIN_(a, b) a##b
#define FUSEDRNN_JOIN(a, b) FUSEDRNN_JOIN_(a, b)
#define FUSEDRNN_ISA FUSEDRNN_JOIN(isa_, FUSEDRNN_ISA_ID)
