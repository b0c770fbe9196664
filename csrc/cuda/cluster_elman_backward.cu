#include "cluster_backward.h"

FUSEDRNN_CLUSTER_BACKWARD(ElmanTanh)
FUSEDRNN_CLUSTER_BACKWARD(ElmanRelu)
