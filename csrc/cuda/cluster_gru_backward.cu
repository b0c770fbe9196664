#include "cluster_backward.h"

FUSEDRNN_CLUSTER_BACKWARD(Gru)
