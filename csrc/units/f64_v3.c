#define DNN_DOUBLE 1
#define DNN_LEVEL 1
#define DNN_NAME dnn_f64_v3
#include "../kernels.c"
