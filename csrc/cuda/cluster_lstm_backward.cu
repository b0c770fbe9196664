#include "cluster_backward.h"

FUSEDRNN_CLUSTER_BACKWARD(Lstm)
