#define DNN_DOUBLE 0
#define DNN_LEVEL 1
#define DNN_NAME dnn_f32_v3
#include "../kernels.c"
