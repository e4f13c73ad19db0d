# SPDX-License-Identifier: Apache-2.0
"""oneDNN 3's batch normalization of tensors in the caller's memory, through its C interface.

The numbers are those of oneDNN's headers dnnl_types.h and dnnl_common_types.h, which keep them from
release to release.
"""

import ctypes

CPU, IN_ORDER, FORWARD_TRAINING, BACKWARD = 1, 1, 64, 128
SCALE_AND_SHIFT = 2 | 4
BF16, F32 = 2, 3
IMPLEMENTATION_NAME = 8  # dnnl_query_impl_info_str
X, Y, MEAN, VARIANCE, SCALE, SHIFT = 1, 17, 49, 50, 51, 52
DX, DY, D_SCALE, D_SHIFT = 129, 145, 255, 256


class Version(ctypes.Structure):
    """dnnl_version_t up to the members that are read."""
    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


class Argument(ctypes.Structure):
    """dnnl_exec_arg_t."""
    _fields_ = [("index", ctypes.c_int), ("memory", ctypes.c_void_p)]


class Unsupported(RuntimeError):
    """This oneDNN does not do what was asked for."""


class OneDnn:
    """A loaded libdnnl.so.3 with an engine for the processor. Its handles live until the process ends."""

    def __init__(self, path):
        self.library = ctypes.CDLL(path)
        self.library.dnnl_version.restype = ctypes.POINTER(Version)
        found = self.library.dnnl_version().contents
        self.version = f"{found.major}.{found.minor}.{found.patch}"
        if found.major != 3:
            raise Unsupported(f"oneDNN {self.version} has another C interface than 3.")
        self.engine = self.make("engine_create", CPU, ctypes.c_size_t(0))
        self.stream = self.make("stream_create", self.engine, IN_ORDER)

    def call(self, name, *arguments):
        status = getattr(self.library, "dnnl_" + name)(*arguments)
        if status:
            raise Unsupported(f"dnnl_{name} of oneDNN {self.version} returns {status}.")

    def make(self, name, *arguments):
        """What dnnl_<name> leaves in its first parameter."""
        made = ctypes.c_void_p()
        self.call(name, ctypes.byref(made), *arguments)
        return made

    def description(self, dtype, sizes, strides):
        dims = ctypes.c_int64 * 12  # DNNL_MAX_NDIMS
        return self.make("memory_desc_create_with_strides", len(sizes), dims(*sizes), dtype,
                         dims(*strides))


class BatchNorm:
    """Batch normalization in training of tensors that all are like the first. Synchronous."""

    def __init__(self, onednn, like, dtype, eps, channel_tensors):
        """`like` and the dictionary `channel_tensors`, [C] floats by argument, are PyTorch tensors."""
        self.onednn, self.channel_tensors = onednn, channel_tensors
        self.tensor = onednn.description(dtype, like.shape, like.stride())
        channels = onednn.description(F32, (like.shape[1],), (1,))
        forward = onednn.make("batch_normalization_forward_primitive_desc_create", onednn.engine,
                              FORWARD_TRAINING, self.tensor, self.tensor, ctypes.c_float(eps),
                              SCALE_AND_SHIFT, None)
        backward = onednn.make("batch_normalization_backward_primitive_desc_create", onednn.engine,
                               BACKWARD, self.tensor, self.tensor, self.tensor,
                               ctypes.c_float(eps), SCALE_AND_SHIFT, forward, None)
        self.forward_primitive = onednn.make("primitive_create", forward)
        self.backward_primitive = onednn.make("primitive_create", backward)
        self.memory = {index: self.at(tensor, channels)
                       for index, tensor in channel_tensors.items()}
        name = ctypes.c_char_p()
        onednn.call("primitive_desc_query", forward, IMPLEMENTATION_NAME, 0, ctypes.byref(name))
        self.implementation = name.value.decode()

    def at(self, tensor, description):
        return self.onednn.make("memory_create", description, self.onednn.engine,
                                ctypes.c_void_p(tensor.data_ptr()))

    def execute(self, primitive, channels, tensors):
        memory = {index: self.at(tensor, self.tensor) for index, tensor in tensors.items()}
        used = list(memory.items()) + [(index, self.memory[index]) for index in channels]
        arguments = (Argument * len(used))(*(Argument(index, each) for index, each in used))
        self.onednn.call("primitive_execute", primitive, self.onednn.stream, len(used), arguments)
        self.onednn.call("stream_wait", self.onednn.stream)
        for each in memory.values():
            self.onednn.call("memory_destroy", each)

    def forward(self, x, y):
        self.execute(self.forward_primitive, (MEAN, VARIANCE, SCALE, SHIFT), {X: x, Y: y})

    def backward(self, x, dy, dx):
        self.execute(self.backward_primitive,
                     (MEAN, VARIANCE, SCALE, SHIFT, D_SCALE, D_SHIFT), {X: x, DY: dy, DX: dx})
