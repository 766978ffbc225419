"""A lean client of AMQP 0-9-1: what a pipeline needs of it, at a tenth of the usual cost.

Frames are cut, read and packed in the protocol's own callbacks: no task, no lock and no queue for
a message on its way. The seam is what every service spends its time in, so it is written here;
`shared.broker` is what the services see of it.
"""
