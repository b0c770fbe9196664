#include "cluster_forward.h"

FUSEDRNN_CLUSTER_FORWARD(ElmanTanh)
FUSEDRNN_CLUSTER_FORWARD(ElmanRelu)
